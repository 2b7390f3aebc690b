"""Hugging Face architectures by name: each is a table in `decoders.py` or `encoders.py`."""

from scaling.hf.decoders import GPT2, LLAMA, MISTRAL, NEOX, QWEN2
from scaling.hf.encoders import BERT, MARIAN, T5

# Of several that can say a shape, an exported run is of the first, unless it was imported as another.
ARCHITECTURES = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "qwen2": QWEN2,
    "gpt_neox": NEOX,
    "bert": BERT,
    "t5": T5,
    "marian": MARIAN,
}
