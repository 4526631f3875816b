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
(`hog.bins`), and so factors. What a component does are methods, whose reference, with defaults, are
the classes below: a registered class inherits from the one of its kind. `arguments` lists what each
method is given: all names before the "*", and of those behind it the ones that it asks for (`def
error(self, predicted, target, encoded)`). Any other name is refused when the class is registered.

Our own components are found in HOMES. A user's come from files and modules that the command names
(`--plugin`) and from installed entry points of the group GROUP (store/plugin.py). Component files
import torch inside their methods, so that a plan stays cheap.
"""

import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mae_ablation.errors import UserError, unknown
from mae_ablation.store.plugin import Plugin, read_plugin, read_plugin_file

HOMES = (  # modules, or packages of them
    "mae_ablation.mae.targets",
    "mae_ablation.mae.samplers",
    "mae_ablation.mae.encoders",
    "mae_ablation.data.augmentations",
    "mae_ablation.data.sets",
    "mae_ablation.train.evaluations",
)
GROUP = "mae_ablation.components"
TAKEN = ("data", "model", "pretrain", "levels", "skip", "more")
"""keys of a recipe file that are no component's"""


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
        """Return W, the numbers predicted for a patch of so many values."""
        return patch_values

    def flops(self, patch_values: int) -> float:
        """Return the FLOPs of making the target of one patch, for estimates."""
        return 0

    def of(self, patches):
        """Make the target (n, C, W) of normalised patches (n, C, P)."""
        return patches

    def error(self, predicted, target):
        """Return each patch's error (n, C), of predictions and target (n, C, W): the loss is its
        mean. `index` (n, C) says which patches these are, `shuffle` (n, L) and `keep` which the
        encoder saw (the first `keep` of the permutation), `encoded` (n, leading + K, D) what it
        made of them, class token and the like first."""
        return (predicted - target).square().mean(dim=-1)

    def note(self, recipe, channels: int) -> str:
        """Return what a reader of a table has to know of rows with this target; "" for nothing."""
        return ""

    def require_files(self) -> None:
        """Open the user's files that `fit` or `of_images` will need, before a run starts; raise a
        UserError for one that cannot be used."""

    def preparation(self, recipe, data: dict) -> dict:
        """Return what `fit` depends on, with `data` (the images' document) where that matters."""
        return {"data": data}

    def preparation_name(self, recipe) -> str:
        """Return the readable part of the name of what was fitted."""
        return self.component.name

    def fit(self, fitting) -> dict:
        """Fit, save tensors by `fitting.save`, and return numbers for the phase's result; `fitting`
        (train/preparation.py) has the recipe, the images and a training loop that can resume."""
        raise NotImplementedError

    @staticmethod
    def saves(result: dict) -> bool:
        """Tell whether `fit`, which returned this, has saved tensors."""
        return True

    def keep(self, fitted: dict, patch_values: int) -> dict:
        """Choose those of the saved tensors that the methods get as `fitted`."""
        return fitted

    def of_images(self, recipe, channels: int, fitted, result: dict, device: str):
        """Return a function that makes the target (n, L, ...) from pixels (n, c, h, w) in [0, 1],
        where `of` cannot make it from patches; None: it can. `fitted()` gives the saved tensors,
        `result` is what `fit` returned. An attribute `width` of the function replaces the method.
        """
        return None


class Sampler:
    """Chooses the patches that the encoder sees."""

    arguments = {
        "kept": ("patches", "mask_ratio", "*", "epoch", "epochs"),
        "shuffle": ("n", "grid", "keep", "generator", "*", "epoch", "epochs"),
    }

    one_of: int | None = None
    """so many patches of which one is kept, whatever the mask ratio; None: the ratio decides"""
    examples: tuple[tuple[str, int], ...] = ()
    """titles of pictures of its masks, and of how many patches one stays visible in them"""

    def kept(self, patches: int, mask_ratio: float) -> int:
        """Return how many patches of an image stay visible, 1 to patches - 1; a curriculum asks
        for `epoch` (from 0) and `epochs`."""
        return int(patches * (1 - mask_ratio))  # truncated as in the official code

    def shuffle(self, n: int, grid: tuple[int, int], keep: int, generator):
        """Draw a permutation of the patches per image, the kept ones first: (n, L) int64, on the
        generator's device, which all randomness is drawn from."""
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
        """Build a torch module whose forward(images, index) gives tokens (n, T + k, D): class token
        and extra ones first, then those of the patches `index` (n, k) int64, in that order; of all
        patches where index is None. Initial weights are drawn from torch's global generator.
        `shape` has image_size and patch_size (pixels), channels, width, depth, heads, mlp_ratio
        and class_token. None: mae/model.py's own encoder."""
        return None

    def classifier(self, encoder, recipe, settings, data):
        """Make a model to be fine-tuned from a built encoder with its weights: it maps images to
        scores and has `blocks`, `norm`, `fc_norm`, `head`, `no_weight_decay()` as timm's have."""
        name = self.component.name
        raise ValueError(f"encoder {name} cannot be fine-tuned: give it a method `classifier`")


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
        """Draw crop boxes (data.augment.Boxes) of n images of `size` (a side, or height and width);
        None: no crop."""
        return None

    def draw(self, n: int, generator):
        """Draw what is random about `apply`, for n images: a tuple of tensors (n, ...) from the
        generator; None: `apply` is not called."""
        return None

    def apply(self, pixels, drawn):
        """Change pixels (n, c, s, s) in [0, 1] after the crop as was drawn: a new tensor."""
        return pixels

    def note(self, recipe, channels: int) -> str:
        """Return what a reader of a table has to know of rows with it; "" for nothing."""
        return ""


class DataSet:
    """Labelled images."""

    arguments = {"read": ("*", "data"), "facts": ("*", "data")}
    arguments |= {"missing": ("data",), "location": ("data",)}

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
        """Return numpy arrays train_images (n, channels, side, side) or (n, side, side) uint8,
        train_labels (n,) from 0, test_images, test_labels."""
        raise NotImplementedError

    def facts(self) -> dict | None:
        """Return what a plan needs without reading: fingerprint, channels, train_images,
        test_images, classes; None: the set is read, which costs a plan that time."""
        return None

    def location(self, data):
        """Return the folder of its files (`data` is the recipe's section); None: it needs none."""
        return None

    def missing(self, data) -> str:
        """Say in one line what is not on this machine and how to get it; "": all is there."""
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
        """Return the readable part of its folder's name."""
        return self.component.name

    def document(self, recipe, source: str) -> dict[str, Any] | None:
        """Return the settings that enter its identity; None: every one."""
        return None

    def phases(self, recipe) -> list:
        """List its trainings: names of evaluations, each with its recipe."""
        return [(self.component.name, recipe)]

    def prefix(self) -> str:
        """Return what the names of its metrics begin with."""
        return self.component.name

    def settings_line(self, recipe) -> str:
        """Write its settings for a plan, one after another."""
        names = (each for each in self.component.settings if each != "labels")
        given = ", ".join(f"{name} {getattr(self, name)}" for name in names)
        return f"{given or 'no settings'}{self.on_labels()}"

    def preset_notes(self, recipe) -> list[str]:
        """Return lines of a plan on how its presets differ."""
        return []

    def method(self, recipe) -> str:
        """Describe how it is measured, for the text below a table."""
        summary = self.component.summary.rstrip(".")
        return f"{self.component.name}: {summary} ({self.settings_line(recipe)})"

    def on_labels(self) -> str:
        """Write ", on 1,000 labels" where it does not see them all."""
        labels = getattr(self, "labels", None)
        if labels and labels < 1:
            return f", on {100 * labels:g} % of the labels"
        return f", on {labels:,} labels" if labels else ""

    def work(self, recipe, data, source: str, encoded: bool):
        """Return images and FLOPs per image (study.speed.Work), for estimates; None: every image
        is encoded once."""
        return None

    @staticmethod
    def measured(result: dict):
        """Return the work (study.speed.Work) that a finished one's result tells of; None: none."""
        return None

    def predict(self, train, labels, queries, classes):
        """Return the classes (q,) of features `queries` (q, D), from features `train` (m, D) and
        `labels` (m,). All that is random is drawn from the generator."""
        raise NotImplementedError

    def evaluate(self, job) -> dict:
        """Measure, on every worker; return test_acc1 and validation_acc1, or the like for each of
        `numbers`, and whatever else the result is to hold. `job` (train/evaluation.py) has recipe,
        seed, images and their features."""
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

    every = {"check": ("recipe",)}
    every |= {"check_data": ("recipe", "channels"), "document": ("recipe", "channels")}
    """methods that every component may have, and what they take"""
    order = 100
    """place among its kind, where an order is seen: in tables, say"""
    component: "Component"

    def check(self, recipe) -> None:
        """Raise checks.Invalid where the recipe's other settings do not allow these."""

    def check_data(self, recipe, channels: int) -> None:
        """Raise checks.Invalid or UserError where the images or a file do not."""

    def document(self, recipe, channels: int) -> dict[str, Any] | None:
        """Return the settings that enter a phase's identity; None: all, under their section."""
        return None

    def with_absolute_paths(self):
        """Return the settings with files that are found from any working directory."""
        # other processes and machines stand elsewhere
        paths = [each.name for each in fields(self) if each.metadata.get("path")]
        given = {name: value for name in paths if (value := getattr(self, name)) is not None}
        found = {name: str(Path(value).expanduser().absolute()) for name, value in given.items()}
        return replace(self, **found)

    def __reduce__(self):
        # plain values travel, with the source of the class where that is a user's
        component = self.component
        values = {name: getattr(self, name) for name in component.settings}
        return _arrive, (component.kind, component.name, values, component.plugin)


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
    def origin(self) -> str:
        """Name of the plug-in or package that it comes from."""
        return self.plugin.name if self.plugin else "mae_ablation"

    @property
    def meaning(self) -> dict[str, Any]:
        """Code's share of an identity: our version above 1, or the hash of a user's source."""
        if self.plugin:
            return {self.name: {"version": self.version, "source": self.plugin.hash}}
        return {self.name: {"version": self.version}} if self.version > 1 else {}


_components: dict[str, Component] = {}
_plugins: dict[str, Plugin] = {}
_loading: list[Plugin] = []


class Register:
    """Decorators, one per kind: `@register.target("hog", version=1)`."""

    def __getattr__(self, kind: str) -> Callable[..., Callable[[type], type]]:
        # `register.targets` is a mistake to be told at once
        if kind not in BASES:
            raise AttributeError(unknown("kind of component", kind, BASES))

        def decorator(name: str, *, version: int, section: str = "") -> Callable[[type], type]:
            return lambda cls: _add(kind, name, version, section or name, cls)

        return decorator


register = Register()


def path(default: str | None = None) -> Any:
    """Declare a setting that is a file's or folder's place: no part of what a recipe means."""
    return field(default=default, metadata={"runtime": True, "path": True})


def _add(kind: str, name: str, version: int, section: str, cls: type) -> type:
    """Make a frozen dataclass of a class and enter it. Raises UserError for what cannot be."""
    # whose it is, and whether the name is free: a plug-in may replace its own
    plugin = _loading[-1] if _loading else _plugin_of(cls)
    place = f"{plugin.name}, {kind} {name}" if plugin else f"{kind} {name}"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f'"{name}" is no name: use small letters, digits and _', place)
    known = _components.get(name)
    if name in TAKEN or (known and (known.plugin is None or known.plugin.name != plugin.name)):
        whose = f"the {known.kind} of {known.origin}" if known else "a section of the recipe"
        raise UserError(f"the name is taken by {whose}: choose another one", place)
    # what a recipe could not read, or nobody would ever give, is refused before it is used
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
    """Refuse a setting without a default, or of a type that a recipe cannot read."""
    bases = [base for base in cls.__mro__ if base.__module__ != __name__]
    own = {name for base in bases for name in inspect.get_annotations(base)}
    for name, hint in get_type_hints(cls).items():
        if name in own and not hasattr(cls, name):
            written = getattr(hint, "__name__", str(hint))
            remedy = f"write `{name}: {written} = ...`"
            raise UserError(f"setting {name} has no default: {remedy}", place)

        # what stands in a union or a tuple counts; a Literal's texts are plain anyway
        parts = (hint,) if get_origin(hint) is Literal else get_args(hint) or (hint,)
        plain = (int, float, bool, str, type(None), ...)
        if name in own and any(p not in plain and get_origin(p) is not Literal for p in parts):
            raise UserError(
                f"setting {name} is of type {hint}: use int, float, bool, str, a Literal of texts, "
                "one of these or None, or a tuple of one",
                place,
            )


def _check_methods(cls: type, arguments: dict[str, tuple[str, ...]], place: str) -> None:
    """Refuse a method that asks for what it is never given."""
    for name, given in arguments.items():
        method = cls.__dict__.get(name)
        if not inspect.isfunction(method):
            continue
        # names count only behind what has to be taken
        required = given[: given.index("*")] if "*" in given else given
        parameters = list(inspect.signature(method).parameters.values())[1:]
        if len(parameters) < len(required):
            raise UserError(f"{name} has to take {', '.join(required)}", place)
        for parameter in parameters[len(required) :]:
            if parameter.name not in given and parameter.default is parameter.empty:
                known = [each for each in given if each != "*"]
                raise UserError(unknown(f"parameter of {name}", parameter.name, known), place)


@cache  # a signature costs some 20 microseconds, and `error` is asked in every step
def _parameters(function: Callable) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)[1:]


def wanted(method: Callable) -> tuple[str, ...]:
    """List the names of a method's parameters."""
    return _parameters(method.__func__)


def ask(method: Callable, *given: Any, **offered: Any) -> Any:
    """Call a component's method with what it has to take, and of the rest what it asks for."""
    return method(*given, **{k: v for k, v in offered.items() if k in wanted(method)[len(given) :]})


# the components that there are --------------------------------------------------------------------


_discovered = False


def _discover() -> None:
    """Import our own components, once; they enter themselves."""
    global _discovered
    if _discovered:
        return
    # set before the imports, which may ask for components themselves
    _discovered = True
    for home in HOMES:
        for module in pkgutil.iter_modules(getattr(import_module(home), "__path__", ())):
            import_module(f"{home}.{module.name}")


def list_components(kind: str | None = None) -> list[Component]:
    """List all components, or those of a kind, in their order."""
    _discover()
    # by kind first, in the order of BASES, at last by name: never by who was imported first
    found = [each for each in _components.values() if kind in (None, each.kind)]
    kinds = list(BASES)
    return sorted(found, key=lambda each: (kinds.index(each.kind), each.cls.order, each.name))


def component_names(kind: str) -> tuple[str, ...]:
    """List the names of a kind's components, in their order."""
    return tuple(each.name for each in list_components(kind))


def find_component(kind: str, name: str) -> Component:
    """Find the component of a name. Raises UserError with the nearest one."""
    _discover()
    found = _components.get(name)
    if found is None or found.kind != kind:
        raise UserError(unknown_component(kind, name, component_names(kind)))
    return found


def unknown_component(what: str, name: str, known: Iterable[str]) -> str:
    """Say that no such name is known, and how one of the user's own becomes known."""
    said = unknown(what, name, known)
    return said if "did you mean" in said else f"{said}; one of your own comes with --plugin FILE"


@lru_cache(maxsize=1)
def sections() -> dict[str, type]:
    """Return the class of each recipe section that belongs to a component, by name, in order."""
    return {each.section: each.cls for each in list_components() if each.settings}


def describe_components() -> Iterator[str]:
    """List what there is, kind by kind: methods that a new one may have, and what they may ask for;
    then name, one sentence, origin, settings and defaults of each."""
    for kind in BASES:
        methods = BASES[kind].arguments.items()
        given = (f"{name}({', '.join(arguments)})" for name, arguments in methods)
        yield f"{kind}s: {', '.join(given)}"
        for each in list_components(kind):
            yield f"  {each.name}  {each.summary} ({each.origin})"
            # settings as `--set` takes them
            for setting in (f for f in fields(each.cls) if not f.metadata.get("inside")):
                default = "null" if setting.default is None else setting.default
                yield f"      {each.section}.{setting.name}: {default}"
    yield f"what the methods do, and what else a class may say: {__file__}"


def column_of(evaluation: str) -> str:
    """Find the evaluation whose column another one's numbers stand in: mostly its own."""
    return find_component("evaluation", evaluation).cls.column or evaluation


def metrics_of(evaluation: str) -> dict[str, tuple[str, str]]:
    """Return name and title of each number of an evaluation, by the metric that it is."""
    cls = find_component("evaluation", evaluation).cls
    # most give top-1 accuracy alone
    numbers = cls.numbers or {"acc1": cls.title or evaluation}
    return {f"{evaluation}_{name}": (name, title) for name, title in numbers.items()}


def preparations() -> dict[str, type]:
    """Return the targets that something is fitted for, by the name of the phase that does it."""
    return {each.cls.needs: each.cls for each in list_components("target") if each.cls.needs}


_caches: list[Callable[[], None]] = [sections.cache_clear]


def forgets(cached: Any) -> Any:
    """Have a cached function forget its values when a component is added (a decorator)."""
    _caches.append(cached.cache_clear)
    return cached


def _forget() -> None:
    for clear in _caches:
        clear()


# what comes from outside --------------------------------------------------------------------------


def plugins() -> tuple[Plugin, ...]:
    """Return everything that was loaded from outside, as it travels to other machines."""
    return tuple(_plugins.values())


def load_plugins(named: Iterable[str]) -> None:
    """Load components from files and modules, and from installed entry points.

    Raises:
        UserError: one is not there, raises when it is imported, or is no component; in one line.
    """
    _discover()
    for name in named:
        _load(read_plugin(name))
    # installed ones need no flag; what was shipped to this machine comes before what it has
    for entry in entry_points(group=GROUP):
        if entry.name not in _plugins:
            _load(read_plugin(entry.value.partition(":")[0], entry.name))


def install_plugins(shipped: Iterable[Plugin]) -> None:
    """Load components from sources that another process has read. Raises as `load_plugins`."""
    _discover()
    for plugin in shipped:
        _load(plugin, shipped=True)


def _arrive(kind: str, name: str, values: dict[str, Any], plugin: Plugin | None) -> Any:
    """Build the component that another process has pickled."""
    install_plugins([plugin] if plugin else [])
    return find_component(kind, name).cls(**values)


def _load(plugin: Plugin, *, shipped: bool = False) -> None:
    if any(each.hash == plugin.hash for each in _plugins.values()):
        return
    if known := _plugins.get(plugin.name):  # edited since, in a notebook: it takes its place
        # all of its package is imported anew
        top = known.module.partition(".")[0]
        _unload(known, {n for n in sys.modules if n == top or n.startswith(f"{top}.")})

    # a package is found beside the user, or where its shipped source is put
    before, modules = set(_components), set(sys.modules)
    if shipped:
        plugin.put_on_path()
    elif str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))

    # whatever registers while this runs is the plug-in's; half of one is none
    _loading.append(plugin)
    try:
        plugin.run()
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
    # its modules, too: the same name must be read again
    for name in [name for name, each in _components.items() if each.plugin == plugin]:
        del _components[name]
    for name in modules:
        del sys.modules[name]
    _forget()


def _plugin_of(cls: type) -> Plugin | None:
    """Read the source of a class that no command names, as in a notebook; None: it is ours."""
    if cls.__module__.startswith("mae_ablation."):
        return None
    # source that is in no file could not be part of an identity
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if not file or not Path(file).is_file():
        message = "register components in a file: their source is part of the results"
        raise UserError(message, cls.__qualname__)
    plugin = _plugins[file] = read_plugin_file(Path(file), file)
    return plugin
