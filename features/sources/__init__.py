"""One adapter per source of history; each turns what a data set holds into checked events and catalog files."""


class SourceProblem(ValueError):
    """A source that cannot be read at all."""
