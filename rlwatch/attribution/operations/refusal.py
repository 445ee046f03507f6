"""What the engine says of an operation that it does not know."""

REMEDY = "explain a function that ends before it, or use method='gradient_x_input'"
BEGIN = (
    "let pixels of rlwatch.unwrap read the observations first, lambda observations: network(pixels(observations)), or "
    "Watch(..., observe=pixels)"
)
"""What to do where the first layer does not read what is explained."""


class Refusal(NotImplementedError):  # noqa: N818 - it is one, with a part of its message apart
    """What lies between the pixels and Q and has no rule."""

    def __init__(self, what: str, remedy: str = REMEDY) -> None:
        super().__init__(f"LRP has no rule for {what}, which lies between the pixels and Q: {remedy}")
        self.what, self.remedy = what, remedy
