"""What a model computes per text, in floating-point operations: shape and formulas, no torch.

A multiplication and an addition are two operations. Only matrix products count; norms, softmax and
activation functions are below one part in a hundred of any model of interest.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelShape:
    """How large a model is, and how much of it works on one token."""

    num_parameters: int
    num_active: int
    """All parameters but those of the experts that a token is not sent to."""
    num_multiplied: int
    """Entries of all matrices that a token is multiplied with, but for the output layer."""
    attention_width: int
    """Sum over layers of the width of all heads' queries and of their values."""
    num_moe_layers: int
    num_experts: int
    """Virtual ones where the model is dense."""
    hidden_size: int
    vocabulary: int
    linear_widths: dict[str, int] = field(default_factory=dict)
    """Sum over layers of inputs plus outputs of the linear layers, by the last part of their name:
    an adapter of rank r on it has r times as many weights."""

    def num_adapted(self, targets: tuple[str, ...], rank: int) -> int:
        """Weights of a LoRA adapter of a rank on targets."""
        return rank * sum(self.linear_widths.get(target, 0) for target in targets)


OLMOE_1B_7B = ModelShape(
    num_parameters=6_919_161_856,
    num_active=1_282_017_280,
    num_multiplied=1_075_838_976,
    attention_width=65_536,
    num_moe_layers=16,
    num_experts=64,
    hidden_size=2048,
    vocabulary=50_304,
    linear_widths={"q_proj": 65_536, "k_proj": 65_536, "v_proj": 65_536, "o_proj": 65_536},
)
"""The published model of arXiv 2409.02060, tab. 1."""


@dataclass(frozen=True)
class Texts:
    """Texts as far as their cost goes: as if all were as long as they are on average."""

    num_texts: int = 0
    num_tokens: int = 0

    def __add__(self, other: "Texts") -> "Texts":
        return Texts(self.num_texts + other.num_texts, self.num_tokens + other.num_tokens)

    def times(self, number: int) -> "Texts":
        """The same texts so many times."""
        return Texts(self.num_texts * number, self.num_tokens * number)


def forward_flops(shape: ModelShape, texts: Texts) -> float:
    """Operations of one forward pass over texts, with logits of every token.

    2 per active matrix entry and token (arXiv 2001.08361, sec. 2.1), where of the experts only the
    chosen ones are active; causal attention with 2 per width and pair of tokens for each of scores
    and values (arXiv 2204.02311, App. B), of which half are masked. Kernels that do not leave the
    masked half out, and padding, cost more.

    Examples
    --------
    >>> forward_flops(ModelShape(100, 80, 50, 8, 1, 2, 4, 5), Texts(num_texts=1, num_tokens=10))
    2200.0
    """
    return _passes(shape, texts, matrices=1, attention=1)


def training_flops(shape: ModelShape, texts: Texts) -> float:
    """Operations of training on texts once: forward, and twice as many backward.

    A backward pass computes the gradients of inputs and of weights (arXiv 2001.08361, sec. 2.1).
    """
    return _passes(shape, texts, matrices=3, attention=3)


def tuning_flops(shape: ModelShape, texts: Texts, num_adapted: int) -> float:
    """Operations of training a LoRA adapter (arXiv 2106.09685) on texts once.

    The weights are frozen: backward computes the gradients of their inputs, as many operations as
    forward, and none of theirs. Attention has no weights and costs twice as much backward. The
    adapter itself, `num_adapted` weights, is trained in full. Activations that are recomputed to
    save memory would add one more forward pass.
    """
    adapter = 3 * 2 * num_adapted * texts.num_tokens
    return _passes(shape, texts, matrices=2, attention=3) + adapter


def _passes(shape: ModelShape, texts: Texts, *, matrices: int, attention: int) -> float:
    """So many times the products of a forward pass with matrices, and those of attention."""
    if not texts.num_tokens:
        return 0.0
    entries = shape.num_multiplied + shape.hidden_size * shape.vocabulary
    length = texts.num_tokens / texts.num_texts
    per_token = matrices * 2 * entries + attention * shape.attention_width * length
    return per_token * texts.num_tokens
