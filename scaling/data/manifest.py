"""What a prepared data set holds, as its manifest.json says."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Manifest:
    """What a prepared data set holds.

    Bytes count each document's UTF-8 and one for its end marker, under every tokenizer alike; so bits per
    byte are loss_nats * val_tokens / (val_bytes * ln 2), and equal loss_nats / ln 2 under `bytes`. Token
    sources know no bytes.
    """

    digest: str
    tokenizer: str
    vocab_size: int
    used_vocabulary: int  # distinct ids in the training split
    train_tokens: int
    unique_train_tokens: int  # without those of copies
    noisy_train_tokens: int  # drawn at random
    val_tokens: int
    train_bytes: int | None
    val_bytes: int | None
    train_documents: int
    duplicate_train_documents: int  # of these: copies put in the place of others
    val_documents: int
    dropped_documents: int  # exact copies of another document
    unknown_val_tokens: int  # tokens of the validation split that stand for what the vocabulary lacks
    entropies_nats: tuple[float, ...] | None  # of the next token after 1, 2, … known ones; known for synthetic data
    tokenizer_sha256: str | None  # of tokenizer.json
    end_id: int | None  # ends a document

    @property
    def entropy_rate_nats(self) -> float | None:
        """The loss in nats per token that no model beats, where it is known."""
        return None if self.entropies_nats is None else self.entropies_nats[-1]

    def least_loss_nats(self, context: int) -> float | None:
        """The least mean loss over a context, whose first tokens see fewer symbols than the chain's order."""
        if self.entropies_nats is None:
            return None
        known = self.entropies_nats[:context]
        return (sum(known) + (context - len(known)) * self.entropies_nats[-1]) / context
