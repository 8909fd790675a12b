"""How stable-diffusion-xl-base-1.0 is built: what a single-file checkpoint leaves out."""

from __future__ import annotations

from pathlib import Path

from transformers import CLIPTokenizer

#: A diffusers pipeline folder without weights and tokenizers.
CONFIG_DIR: Path = Path(__file__).resolve().parent

_START, _END = "<|startoftext|>", "<|endoftext|>"
_LENGTH = 77


def tokenizers() -> tuple[CLIPTokenizer, CLIPTokenizer]:
    """The tokenizers of the first and the second encoder; they differ in what they pad with."""
    pairs = (CONFIG_DIR / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [tuple(pair.split()) for pair in pairs]
    # CLIP's table starts with a visible character for every byte, alone and at a word's end.
    letters = _byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(m) for m in merges)]
    vocab = {word: at for at, word in enumerate([*words, _START, _END])}

    def tokenizer(pad: str) -> CLIPTokenizer:
        made: CLIPTokenizer = CLIPTokenizer(
            vocab=vocab,
            merges=merges,
            bos_token=_START,
            eos_token=_END,
            unk_token=_END,
            pad_token=pad,
            model_max_length=_LENGTH,
        )
        return made

    return tokenizer(_END), tokenizer("!")


def _byte_letters() -> list[str]:
    """A printable character for each byte: itself where it is one, else from 256 on."""
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    own += range(ord("®"), ord("ÿ") + 1)
    return [chr(code) for code in own] + [chr(256 + n) for n in range(256 - len(own))]
