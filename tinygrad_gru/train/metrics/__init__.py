"""stand-in"""
class Metric:
    pass
def metric(which):
    if isinstance(which, str):
        raise ValueError("unknown")
    return which
