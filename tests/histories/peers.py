"""x"""


def report(seconds: float, seed: int) -> str:
    return ""
