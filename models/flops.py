"""What a model computes per text, in floating-point operations: shape and formulas, no torch.

A multiplication and an addition are two operations. Only matrix products count; norms, softmax and
activation functions are below one part in a hundred of any model of interest.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelShape:
    """How large a model is, and how much of it works on one token.

    Attributes
    ----------
    num_parameters
        All of them.
    num_active
        Those that a token meets: all but the experts that it is not sent to.
    num_embedding
        Of the input embedding, which is looked up, not multiplied.
    num_multiplied
        Entries of all matrices that a token is multiplied with, but for the output layer.
    attention_width
        Sum over layers of the width of all heads' queries and of their values.
    num_layers, num_moe_layers, num_experts, hidden_size, vocabulary
        As usual; experts are virtual ones where the model is dense.
    linear_widths
        Sum over layers of inputs plus outputs of the linear layers, by the last part of their name:
        an adapter of rank r on it has r times as many weights.
    """

    num_parameters: int
    num_active: int
    num_embedding: int
    num_multiplied: int
    attention_width: int
    num_layers: int
    num_moe_layers: int
    num_experts: int
    hidden_size: int
    vocabulary: int
    linear_widths: dict[str, int] = field(default_factory=dict)

    def num_bytes(self, dtype: str) -> int:
        """Bytes of all parameters as `float32` or `bfloat16`."""
        return self.num_parameters * {"float32": 4, "bfloat16": 2}[dtype]

    def num_adapted(self, targets: tuple[str, ...], rank: int) -> int:
        """Weights of a LoRA adapter of a rank on targets."""
        return rank * sum(self.linear_widths.get(target, 0) for target in targets)


@dataclass(frozen=True)
class Texts:
    """Texts as far as their cost goes.

    Attributes
    ----------
    num_texts, num_tokens
        How many, and their tokens.
    num_pairs
        Sum over texts of the square of their tokens: what attention costs grows with.
    num_counted
        Tokens for which next-token logits are made.
    """

    num_texts: int
    num_tokens: int
    num_pairs: int
    num_counted: int

    @classmethod
    def alike(cls, num_texts: int, length: int) -> "Texts":
        """Texts of one length, all of whose tokens count."""
        num_tokens = num_texts * length
        return cls(num_texts, num_tokens, num_tokens * length, num_tokens)

    def __add__(self, other: "Texts") -> "Texts":
        return Texts(
            self.num_texts + other.num_texts,
            self.num_tokens + other.num_tokens,
            self.num_pairs + other.num_pairs,
            self.num_counted + other.num_counted,
        )

    def times(self, number: int) -> "Texts":
        """The same texts so many times."""
        return Texts(
            self.num_texts * number,
            self.num_tokens * number,
            self.num_pairs * number,
            self.num_counted * number,
        )


def forward_flops(shape: ModelShape, texts: Texts) -> int:
    """Operations of one forward pass over texts.

    2 per active matrix entry and token (arXiv 2001.08361, sec. 2.1), where of the experts only the
    chosen ones are active; causal attention with 2 per width and pair of tokens for each of scores
    and values (arXiv 2204.02311, App. B), of which half are masked; and 2 per entry of the output
    layer for each token whose logits are made. Kernels that do not leave the masked half out, and
    padding, cost more.

    Examples
    --------
    >>> shape = ModelShape(100, 80, 20, 50, 8, 1, 1, 2, 4, 5)
    >>> forward_flops(shape, Texts.alike(num_texts=1, length=10))
    2200
    """
    matrices = 2 * shape.num_multiplied * texts.num_tokens
    attention = shape.attention_width * texts.num_pairs
    return matrices + attention + _output_flops(shape, texts)


def training_flops(shape: ModelShape, texts: Texts) -> int:
    """Operations of training on texts once: forward, and twice as many backward.

    A backward pass makes the gradients of inputs and of weights (arXiv 2001.08361, sec. 2.1).
    """
    return 3 * forward_flops(shape, texts)


def tuning_flops(shape: ModelShape, texts: Texts, num_adapted: int) -> int:
    """Operations of training a LoRA adapter (arXiv 2106.09685) on texts once.

    The weights are frozen: backward makes the gradients of their inputs, as many operations as
    forward, and none of theirs. Attention has no weights and costs twice as much backward. The
    adapter itself, `num_adapted` weights, is trained in full. Activations that are made twice to
    save memory would add one more forward pass.
    """
    matrices = 2 * 2 * shape.num_multiplied * texts.num_tokens
    attention = 3 * shape.attention_width * texts.num_pairs
    adapter = 3 * 2 * num_adapted * texts.num_tokens
    return matrices + attention + adapter + 2 * _output_flops(shape, texts)


def _output_flops(shape: ModelShape, texts: Texts) -> int:
    return 2 * shape.hidden_size * shape.vocabulary * texts.num_counted
