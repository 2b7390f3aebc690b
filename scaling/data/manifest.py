"""The manifest of a prepared data set, stored in its manifest.json."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Manifest:
    """Identity and counts of a prepared data set.

    Byte counts are each document's UTF-8 and one byte for its end marker, under every tokenizer; so bits per
    byte are loss_nats * val_tokens / (val_bytes * ln 2), and equal loss_nats / ln 2 under `bytes`. Token
    sources have no byte counts.
    """

    digest: str
    tokenizer: str
    vocab_size: int
    used_vocabulary: int  # distinct ids in the training split
    train_tokens: int
    unique_train_tokens: int  # without the tokens of copied documents
    noisy_train_tokens: int  # replaced by ids drawn at random
    val_tokens: int
    train_bytes: int | None
    val_bytes: int | None
    train_documents: int
    duplicate_train_documents: int  # training documents that are copies, in the place of others
    val_documents: int
    dropped_documents: int  # exact copies of another document
    unknown_val_tokens: int  # validation tokens with the unknown id
    entropies_nats: tuple[float, ...] | None  # entropy given the last 1, 2, … tokens; known for synthetic data
    tokenizer_sha256: str | None  # digest of tokenizer.json
    end_id: int | None  # id that ends a document

    @property
    def entropy_rate_nats(self) -> float | None:
        """The entropy rate in nats per token, below which no model's loss lies; None where unknown."""
        return None if self.entropies_nats is None else self.entropies_nats[-1]

    def least_loss_nats(self, context: int) -> float | None:
        """The least mean loss over a context, in nats per token: its first tokens see less than the chain's order."""
        if self.entropies_nats is None:
            return None
        known = self.entropies_nats[:context]
        return (sum(known) + (context - len(known)) * self.entropies_nats[-1]) / context
