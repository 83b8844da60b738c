"""A Hugging Face config.json becomes a model.

How a family is added:

1. An adapter, a function ``llama(config: Config) -> Model`` in a module of this package: it reads keys from the
   ``Config`` (``config.size("hidden_size")``, ``config.flag("mlp_bias")``), which checks them, falls back on the class
   default of transformers where the file lacks a key (and says so for a dimension), and remembers which keys were
   used. It returns the model without name, title, source, notes and format: ``from_config`` fills these in.
   ``assemble`` (``blocks.py``) puts embedding, layers, norm and head together, ``fold`` writes a sequence of layers as
   repeated patterns, and ``decoder`` (``decoder.py``) does both for decoders with Llama's key names.
2. A line in ``registry.py``: the model types, and ``"module:function"``, so that only the needed module is imported.
3. Its class defaults in ``defaults.json`` and the further names of its keys in ``aliases.json`` (tests compare both
   with transformers), and a config in ``tests/data/configs``: the tests compare it with transformers, parameter for
   parameter.

Keys that no adapter read and that are not known to be harmless (``harmless.py``) are named in a note. A key that
changes the architecture in a way that is not supported is refused with ``config.refuse``.
"""

from calc.importers.huggingface.importer import Imported, from_config

__all__ = ["Imported", "from_config"]
