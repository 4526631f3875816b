"""The open door: everything that YAML may name enters here, ours and a user's alike.

    from mae_ablation import register

    @register.target("hog", version=1)
    class Hog:
        \"""Histograms of oriented gradients.\"""

        bins: int = 9

        def width(self, patch_values):
            return self.bins
        ...

Annotated attributes are settings: fields of a recipe section with the component's name
(`hog.bins`), and so factors. What a component does are methods. The classes below are their
reference, with defaults for everything that can have one; a registered class inherits from the one
of its kind. A method may ask for more than it has to take, by the names of its parameters:
`def error(self, predicted, target, encoded)`. A name that is never given is refused when the class
is registered.

Our own components are the modules of the packages in HOMES. A user's come from files and modules
that the command names (`--plugin`) and from installed entry points of the group GROUP; their source
is part of the identity of every phase that uses them, and travels with a run to other machines.
Component files import torch inside their methods, so that a plan stays cheap.
"""

import hashlib
import inspect
import pkgutil
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cache, lru_cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mae_ablation.errors import UserError, one_line, unknown

HOMES = (  # modules, or packages of them
    "mae_ablation.mae.targets",
    "mae_ablation.mae.samplers",
    "mae_ablation.mae.encoders",
    "mae_ablation.data.augmentations",
    "mae_ablation.data.sets",
    "mae_ablation.train.evaluations",
)
GROUP = "mae_ablation.components"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
TAKEN = ("data", "model", "pretrain", "levels", "skip", "more")
"""keys of a recipe file that are no component's"""
_DIGITS = 12  # of a source's hash
NO_MODULE = "no such module: give the path of a Python file, or a module"


class Target:
    """Defines what the decoder predicts for every patch.

    Shapes: n images, L patches, C of them whose error counts, P values of a patch (row, column,
    channel fastest), W predicted numbers, K visible patches, D encoder width.
    """

    arguments = {
        "width": ("patch_values",),
        "flops": ("patch_values",),
        "of": ("patches", "*", "fitted", "index", "grid", "patch_size", "channels"),
        "error": (
            *("predicted", "target", "*", "patches", "index", "shuffle", "keep", "grid"),
            *("encoded", "leading", "fitted", "patch_size", "channels"),
        ),
        "pixels": ("predicted", "patches", "*", "fitted", "grid", "patch_size", "channels"),
    }

    needs = ""
    """name of a phase that fits something first, once for all seeds: `fit`, `preparation`"""
    fit_flops = 1e6
    """FLOPs of that phase per training image, for estimates"""
    stand_in = False
    """it stands in for what the paper used: tables say so"""
    lends_statistics = False
    """`pixels` takes mean and contrast of removed patches from the true ones: pictures say so"""

    def width(self, patch_values: int) -> int:
        """Numbers predicted for a patch of so many values: W."""
        return patch_values

    def flops(self, patch_values: int) -> float:
        """FLOPs of making the target of one patch, for estimates."""
        return 0

    def of(self, patches):
        """Target (n, C, W) of normalised patches (n, C, P)."""
        return patches

    def error(self, predicted, target):
        """Error of each patch, (n, C), of predictions and target (n, C, W); its mean is the loss.

        `index` (n, C) says which patches these are, `shuffle` (n, L) and `keep` which the encoder
        saw (the first `keep` of the permutation), `encoded` (n, leading + K, D) what it made of
        them, class token and the like first.
        """
        return (predicted - target).square().mean(dim=-1)

    def note(self, recipe, channels: int) -> str:
        """Return what a reader of a table has to know of rows with this target; "" for nothing."""
        return ""

    def require_files(self) -> None:
        """Open files of the user's that `fit` or `of_images` will need, before a run starts.
        Raises UserError for one that cannot be used."""

    def preparation(self, recipe, data: dict) -> dict:
        """Return what `fit` depends on, with `data` (the images' document) where that matters."""
        return {"data": data}

    def preparation_name(self, recipe) -> str:
        """Readable part of the name of what was fitted."""
        return self.component.name

    def fit(self, fitting) -> dict:
        """Fit, and save tensors by `fitting.save`; returns numbers for the phase's result.

        `fitting` (train/preparation.py) has the recipe, the images and a training loop that can
        be resumed.
        """
        raise NotImplementedError

    @staticmethod
    def saves(result: dict) -> bool:
        """Tell whether `fit`, which returned this, has saved tensors."""
        return True

    def keep(self, fitted: dict, patch_values: int) -> dict:
        """Those of the tensors that were saved which the methods get as `fitted`."""
        return fitted

    def of_images(self, recipe, channels: int, fitted, result: dict, device: str):
        """A function that makes the target (n, L, ...) from pixels (n, c, h, w) in [0, 1], where
        it is not made from patches; None: it is, by `of`. `fitted()` gives the saved tensors,
        `result` is what `fit` returned. An attribute `width` of
        the function takes the place of the method."""
        return None


class Sampler:
    """Which patches the encoder sees."""

    arguments = {
        "kept": ("patches", "mask_ratio", "*", "epoch", "epochs"),
        "shuffle": ("n", "grid", "keep", "generator", "*", "epoch", "epochs"),
    }

    one_of: int | None = None
    """so many patches of which one is kept, whatever the mask ratio; None: the ratio decides"""
    examples: tuple[tuple[str, int], ...] = ()
    """titles of pictures of its masks, and of how many patches one stays visible in them"""

    def kept(self, patches: int, mask_ratio: float) -> int:
        """Patches of an image that stay visible, 1 to patches - 1; a curriculum asks for `epoch`
        (from 0) and `epochs`."""
        return int(patches * (1 - mask_ratio))  # truncated as in the official code

    def shuffle(self, n: int, grid: tuple[int, int], keep: int, generator):
        """One permutation of the patches per image, the kept ones first: (n, L) int64, on the
        generator's device. All that is random is drawn from the generator."""
        raise NotImplementedError


class Encoder:
    """Encodes the patches that are seen.

    Shapes: n images, k patches that are seen, D width, T tokens before the patches.
    """

    arguments = {"build": ("shape",), "classifier": ("encoder", "recipe", "settings", "data")}

    extra_tokens = 0
    """tokens before the patches besides the class token, such as registers"""
    takes_mask_tokens = False
    """it knows `encoder_mask_tokens`"""

    def build(self, shape):
        """A torch module whose forward(images, index) gives tokens (n, T + k, D): class token and
        extra ones first, then those of the patches `index` (n, k) int64, in that order; of all
        patches where index is None. Initial weights are drawn from torch's global generator.

        `shape` has image_size and patch_size (pixels), channels, width, depth, heads, mlp_ratio
        and class_token. None: mae/model.py's own encoder.
        """
        return None

    def classifier(self, encoder, recipe, settings, data):
        """A model to be fine-tuned, from a built encoder with its weights: maps images to scores
        and has `blocks`, `norm`, `fc_norm`, `head` and `no_weight_decay()` as timm's have."""
        raise ValueError(
            f"encoder {self.component.name} cannot be fine-tuned: give it a method `classifier`"
        )


class Augmentation:
    """Changes training images in pre-training.

    Shapes: n images, c channels, s pixels of a side.
    """

    arguments = {
        "boxes": ("n", "size", "generator", "*", "min_area", "drawn_once"),
        "draw": ("n", "generator"),
        "apply": ("pixels", "drawn"),
    }

    uses: tuple[str, ...] = ()
    """fields of the recipe's `pretrain` that it takes; others are no part of what it means"""
    as_evaluated = False
    """it changes nothing: images are shown as in an evaluation"""
    streamed = "centre"
    """crops of images that are read from files: "box", its boxes are of the whole image;
    "anywhere" or "centre", where the recipe's size is cut out of a slightly larger image"""

    def boxes(self, n: int, size, generator):
        """Crop boxes (data.augment.Boxes) of n images of `size` (a side, or height and width);
        None: no crop."""
        return None

    def draw(self, n: int, generator):
        """Draw what is random about `apply`, for n images: a tuple of tensors (n, ...) from the
        generator; None: `apply` is not called."""
        return None

    def apply(self, pixels, drawn):
        """Pixels (n, c, s, s) in [0, 1] after the crop, changed as was drawn: a new tensor."""
        return pixels

    def note(self, recipe, channels: int) -> str:
        """Return what a reader of a table has to know of rows with it; "" for nothing."""
        return ""


class DataSet:
    """Labelled images."""

    arguments = {
        "read": ("*", "data"),
        "facts": ("*", "data"),
        "missing": ("data",),
        "location": ("data",),
    }

    mean: tuple[float, ...] | None = None
    """per channel, of pixels in [0, 1]; None: measured on the training images"""
    std: tuple[float, ...] | None = None
    side: int | None = None
    """pixels; images are padded, not shrunk, where a recipe asks for another size; None: any"""
    in_files = False
    """a folder of one file per image (train/CLASS/*.jpg) at `location`, and no `read`"""
    downloads = False
    """`fetch` can get what is missing"""

    def read(self) -> dict:
        """Numpy arrays train_images (n, channels, side, side) or (n, side, side) uint8,
        train_labels (n,) from 0, test_images, test_labels."""
        raise NotImplementedError

    def facts(self) -> dict | None:
        """Return what a plan needs without reading: fingerprint, channels, train_images,
        test_images, classes; None: the set is read, which costs a plan that time."""
        return None

    def location(self, data):
        """Folder of its files (`data` is the recipe's section); None: it needs none."""
        return None

    def missing(self, data) -> str:
        """One line that says what is not on this machine and how to get it; "": all is there."""
        return ""


class Evaluation:
    """Measures a pre-training: numbers on the test split, and a column for each.

    Shapes: m training images, q others, D values of a feature.
    """

    arguments = {
        "describe": ("recipe",),
        "predict": ("train", "labels", "queries", "classes", "*", "seed", "generator"),
        "evaluate": ("job",),
        "document": ("recipe", "source"),
        "work": ("recipe", "data", "source", "encoded"),
    }

    title = ""
    """head of its column and, in small letters, label of its axis; "": its name"""
    head = ""
    """the same where there is little room"""
    numbers: dict[str, str] = {}
    """title of each number that it gives, by name, in per cent or points, where higher is better;
    `evaluate` returns "test_NAME". Empty: top-1 accuracy alone, "acc1" """
    column = ""
    """the evaluation whose column it is a row of; "" for a column of its own"""
    rows = ("pretrain", "random", "pixels")
    """encoders that it is measured on: pre-trained ones, a random one, raw pixels"""
    trains_encoder = False
    """it trains the encoder, too; else it classifies features of a frozen one"""
    has_curve = by_epoch = False
    """its validation accuracy is logged after every epoch; and all its trainings have one length"""
    lends_features = False
    """the features of all images are kept for the evaluations after it"""
    presets: tuple[str, ...] = ()
    """values of its `preset` (recipe/presets.py)"""
    paper_columns: tuple[str, ...] = ()
    """keys of paper_numbers.yaml, the first that has a number; empty: that of its name"""
    paper_noise = 0.6
    """points: what training again does to the paper's numbers"""
    place_in_table_1 = 9
    """place of its column among the paper's"""

    def describe(self, recipe) -> str:
        """Readable part of its folder's name."""
        return self.component.name

    def document(self, recipe, source: str) -> dict[str, Any] | None:
        """Return the settings that enter its identity; None: every one."""
        return None

    def phases(self, recipe) -> list:
        """Its trainings: names of evaluations, each with its recipe."""
        return [(self.component.name, recipe)]

    def prefix(self) -> str:
        """Begins the names of its metrics."""
        return self.component.name

    def settings_line(self, recipe) -> str:
        """Its settings in a plan, one after another."""
        names = (each for each in self.component.settings if each != "labels")
        given = ", ".join(f"{name} {getattr(self, name)}" for name in names)
        return f"{given or 'no settings'}{self.on_labels()}"

    def preset_notes(self, recipe) -> list[str]:
        """Lines of a plan on how its presets differ."""
        return []

    def method(self, recipe) -> str:
        """Describe how it is measured, for the text below a table."""
        summary = self.component.summary.rstrip(".")
        return f"{self.component.name}: {summary} ({self.settings_line(recipe)})"

    def on_labels(self) -> str:
        """ ", on 1,000 labels" where it does not see them all."""
        labels = getattr(self, "labels", None)
        return f", on {labels:,} labels" if labels else ""

    def work(self, recipe, data, source: str, encoded: bool):
        """Images and FLOPs per image (study.speed.Work), for estimates; None: every image is
        encoded once."""
        return None

    @staticmethod
    def measured(result: dict) -> tuple[float, float]:
        """FLOPs per image and images per second of a finished one; zeros: unknown."""
        return 0.0, 0.0

    def predict(self, train, labels, queries, classes):
        """Classes (q,) of features `queries` (q, D), from features `train` (m, D) and `labels`
        (m,). All that is random is drawn from the generator."""
        raise NotImplementedError

    def evaluate(self, job) -> dict:
        """Measure, on every worker; returns test_acc1 and validation_acc1, or the like for
        each of `numbers`, and whatever else the result is to hold.

        `job` (train/evaluation.py) has recipe, seed, images and their features.
        """
        return job.classify(self)


BASES: dict[str, type] = {
    "target": Target,
    "sampler": Sampler,
    "encoder": Encoder,
    "augmentation": Augmentation,
    "dataset": DataSet,
    "evaluation": Evaluation,
}


class Settings:
    """Base of all components."""

    every = {
        "check": ("recipe",),
        "check_data": ("recipe", "channels"),
        "document": ("recipe", "channels"),
    }
    """methods that every component may have, and what they take"""
    order = 100
    """place among its kind, where an order is seen: in tables, say"""
    component: "Component"

    def check(self, recipe) -> None:
        """Raises checks.Invalid where the recipe's other settings do not allow these."""

    def check_data(self, recipe, channels: int) -> None:
        """Raises checks.Invalid or UserError where the images or a file do not."""

    def document(self, recipe, channels: int) -> dict[str, Any] | None:
        """Return the settings that enter a phase's identity; None: all, under their section."""
        return None

    def with_absolute_paths(self):
        """The settings with files that are found from any working directory."""
        paths = [each.name for each in fields(self) if each.metadata.get("path")]
        given = {name: value for name in paths if (value := getattr(self, name)) is not None}
        found = {name: str(Path(value).expanduser().absolute()) for name, value in given.items()}
        return replace(self, **found)

    def __reduce__(self):
        """Travels as plain values, with the source of its class where that is a user's."""
        component = self.component
        values = {name: getattr(self, name) for name in component.settings}
        return _arrive, (component.kind, component.name, values, component.plugin)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plugin:
    """Source of a user's components, as it is at work and as it travels."""

    name: str
    """as the command or the entry point names it"""
    module: str
    """name by which it is imported"""
    files: tuple[tuple[str, bytes], ...]
    """source by relative path: the file itself, or all Python files of a module's package"""
    entry: bool = False
    """an installed entry point names it, and no command needs to"""

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits over the files; of a single file its place does not count."""
        digest = hashlib.sha256()
        for path, source in self.files:
            name = "" if path == self.name else path
            digest.update(f"{name}\0{len(source)}\0".encode() + source)
        return digest.hexdigest()[:_DIGITS]

    def packed(self) -> dict[str, Any]:
        """The plug-in as JSON holds it."""
        files = [[path, source.decode("utf-8", "surrogateescape")] for path, source in self.files]
        return {"name": self.name, "module": self.module, "files": files, "entry": self.entry}

    def __str__(self) -> str:
        return f"{self.name} ({self.hash})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """One registered name."""

    kind: str
    name: str
    version: int
    """stands in identities of our own; raised when the same settings give other results"""
    section: str
    """section of the recipe that holds its settings"""
    cls: type
    """a frozen dataclass of its settings, with what it does"""
    plugin: Plugin | None
    """None: it is one of ours"""

    @property
    def settings(self) -> tuple[str, ...]:
        return tuple(field.name for field in fields(self.cls))

    @property
    def summary(self) -> str:
        """The first sentence of its docstring."""
        text = " ".join((inspect.getdoc(self.cls) or "").split("\n\n")[0].split())
        return re.split(r"(?<=\.)\s", text)[0]

    @property
    def meaning(self) -> dict[str, Any]:
        """Return what its code adds to an identity: our version above 1, or a user's source."""
        if self.plugin:
            return {self.name: {"version": self.version, "source": self.plugin.hash}}
        return {self.name: {"version": self.version}} if self.version > 1 else {}


# the components that there are --------------------------------------------------------------------

_components: dict[str, Component] = {}
_plugins: dict[str, Plugin] = {}
_loading: list[Plugin] = []
_discovered = False


class Register:
    """Decorators, one per kind: `@register.target("hog", version=1)`."""

    def __getattr__(self, kind: str) -> Callable[..., Callable[[type], type]]:
        if kind not in BASES:
            raise AttributeError(unknown("kind of component", kind, BASES))

        def decorator(name: str, *, version: int, section: str = "") -> Callable[[type], type]:
            return lambda cls: _add(kind, name, version, section or name, cls)

        return decorator


register = Register()


def path(default: str | None = None) -> Any:
    """Setting that is a file's or folder's place: no part of what a recipe means."""
    return field(default=default, metadata={"runtime": True, "path": True})


def _arrive(kind: str, name: str, values: dict[str, Any], plugin: "Plugin | None") -> Any:
    """The component that another process has sent."""
    install_plugins([plugin] if plugin else [])
    return find_component(kind, name).cls(**values)


def _add(kind: str, name: str, version: int, section: str, cls: type) -> type:
    """Make a frozen dataclass of a class and enter it. Raises UserError for what cannot be."""
    plugin = _loading[-1] if _loading else _plugin_of(cls)
    place = f"{plugin.name}, {kind} {name}" if plugin else f"{kind} {name}"
    if not _NAME.fullmatch(name):
        raise UserError(f'"{name}" is no name: use small letters, digits and _', place)
    known = _components.get(name)
    if name in TAKEN or (known and (known.plugin is None or known.plugin.name != plugin.name)):
        whose = (
            "a section of the recipe"
            if name in TAKEN
            else f"the {known.kind} of {origin_of(known)}"
        )
        raise UserError(f"the name is taken by {whose}: choose another one", place)
    _check_settings(cls, place)
    _check_methods(cls, Settings.every | BASES[kind].arguments, place)

    # the class itself, with the defaults of its kind behind it
    as_data = dataclass(frozen=True, kw_only=True)
    namespace = {name: getattr(cls, name) for name in ("__doc__", "__module__", "__qualname__")}
    made = as_data(type(cls.__name__, (as_data(cls), BASES[kind], Settings), namespace))
    made.component = Component(
        kind=kind, name=name, version=version, section=section, cls=made, plugin=plugin
    )
    _components[name] = made.component
    _forget()
    return made


def _check_settings(cls: type, place: str) -> None:
    """Every setting has a default, and a type that a recipe can read."""
    bases = [base for base in cls.__mro__ if base.__module__ != __name__]
    own = {name for base in bases for name in inspect.get_annotations(base)}
    for name, hint in get_type_hints(cls).items():
        if name not in own:
            continue
        if not hasattr(cls, name):
            written = getattr(hint, "__name__", str(hint))
            raise UserError(
                f"setting {name} has no default: write `{name}: {written} = ...`", place
            )
        parts = get_args(hint) if get_origin(hint) is not Literal else ()
        plain = [part for part in (parts or (hint,)) if part not in (type(None), ...)]
        if get_origin(hint) is not Literal and any(
            part not in (int, float, bool, str) and get_origin(part) is not Literal
            for part in plain
        ):
            raise UserError(
                f"setting {name} is of type {hint}: use int, float, bool, str, a Literal of texts, "
                "one of these or None, or a tuple of one",
                place,
            )


def _check_methods(cls: type, arguments: dict[str, tuple[str, ...]], place: str) -> None:
    """Every method asks for what it is given and nothing else."""
    for name, given in arguments.items():
        method = cls.__dict__.get(name)
        if not inspect.isfunction(method):
            continue
        required = given[: given.index("*")] if "*" in given else given
        parameters = list(inspect.signature(method).parameters.values())[1:]
        if len(parameters) < len(required):
            raise UserError(f"{name} has to take {', '.join(required)}", place)
        for parameter in parameters[len(required) :]:
            if parameter.name not in given and parameter.default is parameter.empty:
                known = [each for each in given if each != "*"]
                raise UserError(unknown(f"parameter of {name}", parameter.name, known), place)


@cache
def _wanted(function: Callable) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)[1:]


def wanted(method: Callable) -> tuple[str, ...]:
    """Names of a method's parameters."""
    return _wanted(method.__func__)


def ask(method: Callable, *given: Any, **offered: Any) -> Any:
    """Call a component's method with what it has to take, and of the rest what it asks for."""
    return method(*given, **{k: v for k, v in offered.items() if k in wanted(method)[len(given) :]})


def origin_of(component: Component) -> str:
    """Name the place a component comes from."""
    return component.plugin.name if component.plugin else "mae_ablation"


def list_components(kind: str | None = None) -> list[Component]:
    """All components, or those of a kind, in their order."""
    _discover()
    found = [each for each in _components.values() if kind in (None, each.kind)]
    kinds = list(BASES)
    return sorted(found, key=lambda each: (kinds.index(each.kind), each.cls.order))


def component_names(kind: str) -> tuple[str, ...]:
    return tuple(each.name for each in list_components(kind))


def find_component(kind: str, name: str) -> Component:
    """The component of a name. Raises UserError with the nearest one."""
    _discover()
    found = _components.get(name)
    if found is None or found.kind != kind:
        raise UserError(unknown(kind, name, component_names(kind)))
    return found


@lru_cache(maxsize=1)
def sections() -> dict[str, type]:
    """Class of each recipe section that belongs to a component, by name, in their order."""
    return {each.section: each.cls for each in list_components() if each.settings}


def describe_components() -> Iterator[str]:
    """List what there is, kind by kind: name, one sentence, origin, then settings and defaults."""
    for kind in BASES:
        yield f"{kind}s:"
        for each in list_components(kind):
            yield f"  {each.name}  {each.summary} ({origin_of(each)})"
            for setting in (f for f in fields(each.cls) if not f.metadata.get("inside")):
                default = "null" if setting.default is None else setting.default
                yield f"      {each.section}.{setting.name}: {default}"


def column_of(evaluation: str) -> str:
    """Find the evaluation whose column another one's numbers stand in: mostly its own."""
    return find_component("evaluation", evaluation).cls.column or evaluation


def metrics_of(evaluation: str) -> dict[str, tuple[str, str]]:
    """Name and title of each number of an evaluation, by the name of the metric that it is."""
    cls = find_component("evaluation", evaluation).cls
    numbers = cls.numbers or {"acc1": cls.title or evaluation}
    return {f"{evaluation}_{name}": (name, title) for name, title in numbers.items()}


def preparations() -> dict[str, type]:
    """Class of each target that something is fitted for, by the name of the phase that does it."""
    return {each.cls.needs: each.cls for each in list_components("target") if each.cls.needs}


def is_plugin(cls: type) -> bool:
    """Tell whether a section's class came from outside."""
    component = getattr(cls, "component", None)
    return component is not None and component.plugin is not None


def plugins() -> tuple[Plugin, ...]:
    """Everything that was loaded from outside, as it travels to other machines."""
    return tuple(_plugins.values())


_caches: list[Callable[[], None]] = [sections.cache_clear]


def forgets(cached: Any) -> Any:
    """Have a cached function forget its values when a component is added (a decorator)."""
    _caches.append(cached.cache_clear)
    return cached


def _forget() -> None:
    for clear in _caches:
        clear()


def _discover() -> None:
    """Import our own components, once; they enter themselves."""
    global _discovered
    if _discovered:
        return
    _discovered = True
    for home in HOMES:
        for module in pkgutil.iter_modules(getattr(import_module(home), "__path__", ())):
            import_module(f"{home}.{module.name}")


# what comes from outside --------------------------------------------------------------------------


def load_plugins(named: Iterable[str]) -> None:
    """Load components from files and modules, and from installed entry points.

    Raises:
        UserError: one is not there, raises when it is imported, or is no component; in one line.
    """
    _discover()
    for name in named:
        _load(_read(name))
    for entry in entry_points(group=GROUP):
        _load(_read(entry.value.partition(":")[0], entry.name))


def unpack_plugin(packed: dict[str, Any]) -> Plugin:
    """The plug-in that was `packed`."""
    files = ((path, text.encode("utf-8", "surrogateescape")) for path, text in packed["files"])
    return Plugin(**{**packed, "files": tuple(files)})


def install_plugins(shipped: Iterable[Plugin]) -> None:
    """Load components from sources that another process has read. Raises as `load_plugins`."""
    _discover()
    for plugin in shipped:
        _load(plugin, shipped=True)


def _load(plugin: Plugin, *, shipped: bool = False) -> None:
    known = _plugins.get(plugin.name)
    if any(each.hash == plugin.hash for each in _plugins.values()):
        return
    if known:  # edited since, in a notebook: the new one takes its place
        top = known.module.partition(".")[0]
        _unload(known, {n for n in sys.modules if n == top or n.startswith(f"{top}.")})
    before, modules = set(_components), set(sys.modules)
    if shipped:
        _unpack(plugin)
    elif str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))
    _loading.append(plugin)
    try:
        _import(plugin)
        if set(_components) == before:
            message = "registers no component: decorate a class with @register.KIND"
            raise UserError(message, plugin.name)
    except UserError:
        _unload(plugin, set(sys.modules) - modules)
        raise
    finally:
        _loading.pop()
    _plugins[plugin.name] = plugin


def _unload(plugin: Plugin, modules: Iterable[str]) -> None:
    """Forget a plug-in's components, and modules that it has brought."""
    for name in [name for name, each in _components.items() if each.plugin == plugin]:
        del _components[name]
    for name in modules:
        del sys.modules[name]
    _forget()


def _import(plugin: Plugin) -> None:
    """Run a plug-in's code; what it raises becomes one line with file and line."""
    try:
        if plugin.files[0][0] == plugin.name:
            path, source = plugin.files[0]  # a single file, as a module of its own name
            module = module_from_spec(spec_from_loader(plugin.module, loader=None))
            module.__file__ = path
            sys.modules[plugin.module] = module
            exec(compile(source, path, "exec"), module.__dict__)
        else:
            import_module(plugin.module)
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # whatever the user's code may do, SystemExit too
        if isinstance(error, ModuleNotFoundError) and error.name == plugin.module:
            raise UserError(NO_MODULE, plugin.name) from None
        raise UserError(f"raises at import: {one_line(error)}", _place(plugin, error)) from None


def _place(plugin: Plugin, error: BaseException) -> str:
    """File and line where a plug-in raised."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    ours = [frame for frame in traceback.extract_tb(error.__traceback__)]
    there = [f for f in ours if any(f.filename.endswith(path) for path, _ in plugin.files)]
    return f"{there[-1].filename}:{there[-1].lineno}" if there else plugin.name


def _unpack(plugin: Plugin) -> None:
    """Have a package that was shipped on the path; it stays there, for methods may import later."""
    folder = tempfile.mkdtemp(prefix="mae-plugin-")
    for path, source in plugin.files:
        if path != plugin.name:
            Path(folder, path).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, path).write_bytes(source)
    sys.path.insert(0, folder)


def _read(named: str, entry: str = "") -> Plugin:
    """The source of a file, or of the whole package of a module, that somebody names."""
    path = Path(named).expanduser()
    if named.endswith(".py") or path.is_file():
        if not path.is_file():
            raise UserError("no such file: give the path of a Python file, or a module", named)
        return _file(path, named)
    spec = PathFinder.find_spec(named.partition(".")[0], [str(Path.cwd()), *sys.path])
    if spec is None or not spec.origin:
        raise UserError(NO_MODULE, named)
    origin = Path(spec.origin)
    package = origin.parent if spec.submodule_search_locations else None
    found = sorted(package.rglob("*.py")) if package else [origin]
    root = package.parent if package else origin.parent
    files = tuple((each.relative_to(root).as_posix(), each.read_bytes()) for each in found)
    return Plugin(name=entry or named, module=named, files=files, entry=bool(entry))


def _file(path: Path, named: str) -> Plugin:
    module = f"mae_ablation_plugin_{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}"
    return Plugin(name=named, module=module, files=((named, path.read_bytes()),))


def _plugin_of(cls: type) -> Plugin | None:
    """The source of a class that is registered without being named by a command; None: ours."""
    if cls.__module__.startswith("mae_ablation."):
        return None
    module: ModuleType | None = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if not file or not Path(file).is_file():
        message = "register components in a file: their source is part of the results"
        raise UserError(message, cls.__qualname__)
    plugin = _file(Path(file), file)
    _plugins[plugin.name] = plugin
    return plugin
