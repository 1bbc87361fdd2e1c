"""Why the kernel plane cannot be had."""


class KernelPlaneUnavailable(Exception):
    """Something that the kernel plane needs is missing; the message names it and what to do."""
