"""The one error of the model."""


class Refused(Exception):
    """Something from outside that a client must refuse; the text says why, for whoever reads a failed check."""
