"""A model on several ranks, each a process: written from the papers, with every exchange an explicit call.

Shoeybi et al. 2019, arXiv:1909.08053 (tensor parallelism); Korthikanti et al. 2022, arXiv:2205.05198 (sequence
parallelism); GShard, arXiv:2006.16668 (experts); Liu et al. 2023, arXiv:2310.01889 (rings); Rajbhandari et al. 2019,
arXiv:1910.02054 and Zhao et al. 2023, arXiv:2304.11277 (shared states); Narayanan et al. 2021, arXiv:2104.04473
(pipelines). A rank takes its slices of a whole twin's tensors, so that what it computes can be compared with the twin.
"""
