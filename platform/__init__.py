"""Stands in for the standard library's `platform`, which this folder hides from every import."""


def _load_stdlib():
    """Run the standard module's code in this namespace; only what makes us a package stays ours."""
    import os
    from importlib.machinery import PathFinder

    spec = PathFinder.find_spec("platform", [os.path.dirname(os.__file__)])
    if spec is None or spec.loader is None:
        raise ImportError("cannot find the standard library's platform module")
    code = spec.loader.get_code("platform")
    names = globals()
    package = ("__name__", "__file__", "__spec__", "__path__", "__package__", "__loader__")
    ours = {name: names[name] for name in (*package, "__cached__") if name in names}
    exec(code, names)
    names.update(ours)


_load_stdlib()
del _load_stdlib
