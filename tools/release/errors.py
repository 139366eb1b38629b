"""What a release is refused for."""


class ReleaseError(Exception):
    """The message is for a person: what was found, and what to do next."""
