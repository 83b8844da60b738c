"""Images, sound and clips in a prompt: what they cost in the towers, and what share of the language model is theirs."""

from calc.media.asked import Asked, Clip, Picture, Recording, read
from calc.media.shares import Media, media

__all__ = ["Asked", "Clip", "Media", "Picture", "Recording", "media", "read"]
