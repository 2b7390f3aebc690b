"""Greedy answers: the likeliest token at every step, until the end token or the longest answer.

B batch, T tokens, V vocabulary
"""

import numpy as np
import torch
from torch import Tensor, nn

from scaling.data.tokenizers import Tokenizer
from scaling.finetune.encode import PAD, Encoded
from scaling.shapes.families import EncoderDecoderShape
from scaling.spec.run_spec import FinetunedSpec


@torch.no_grad()
def answer(
    model: nn.Module, spec: FinetunedSpec, encoded: Encoded, tokenizer: Tokenizer, device: torch.device, size: int
) -> list[str]:
    """The model's greedy answers to all examples, as text; every step reads the whole sequence again."""
    model.eval()
    texts: list[str] = []
    for batch in encoded.batches(size):
        first = len(texts)
        prompts_B = torch.from_numpy(encoded.prompts_N[first : first + size]).to(device)
        ids_BT = _write(model, spec, batch.to(device).inputs, prompts_B, tokenizer.end_id)
        for ids in ids_BT.cpu().numpy():
            ends = np.flatnonzero(ids == tokenizer.end_id)
            texts.append(tokenizer.decode(ids[: ends[0]] if len(ends) else ids))
    return texts


def _write(model: nn.Module, spec: FinetunedSpec, inputs: tuple[Tensor, ...], prompts_B: Tensor, end_id: int) -> Tensor:
    """Ids of the answers, (B, at most answer_tokens)."""
    row_B = torch.arange(len(prompts_B), device=prompts_B.device)
    has_source = isinstance(spec.model, EncoderDecoderShape)
    place = 1 if has_source else 0  # number of the input that receives the answer
    tokens_BT = inputs[place].clone()
    start_B = torch.ones_like(prompts_B) if has_source else prompts_B  # position of the answer's first token
    columns_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
    tokens_BT[columns_T >= start_B[:, None]] = PAD
    written, ended_B = [], torch.zeros_like(prompts_B, dtype=torch.bool)
    for step in range(spec.finetuned.answer_tokens):
        logits_BTV = model(*(tokens_BT if k == place else given for k, given in enumerate(inputs)))
        next_B = logits_BTV[row_B, start_B + step - 1].argmax(dim=-1)
        written.append(next_B)
        ended_B |= next_B == end_id
        if bool(ended_B.all()):
            break
        tokens_BT[row_B, start_B + step] = next_B
    return torch.stack(written, dim=1)
