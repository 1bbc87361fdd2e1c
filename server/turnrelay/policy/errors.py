"""What an operator has to mend."""


class OperatorError(Exception):
    """Something of the operator's (a file, a user, a setting) is not as it has to be.

    The text says what happened, with which value, and what to do. It never holds a secret.
    """
