"""The one error for input that cannot be used."""


class Fault(ValueError):
    """Bad input, named: the frame or message that caused it is dropped and counted.

    Args:
        reason: short snake_case name; drops are counted under it in diagnostics and summaries.
        message: what is wrong, with the offending values, and what to do about it.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason
