"""Random spellings, texts and names: what a person writes is what the recipe and the table have."""

from hypothesis import given, settings
from hypothesis import strategies as some
from toys import quoted

from mae_ablation.errors import UserError
from mae_ablation.study.document import read_yaml
from mae_ablation.study.settings import read_change, section_settings

fast = settings(derandomize=True, deadline=None, max_examples=40, database=None)

LETTERS = some.characters(
    exclude_categories=("Cs", "Cc", "Cn", "Zl", "Zp"), exclude_characters="\ufeff"
)
TEXTS = some.one_of(
    some.text(LETTERS, min_size=1, max_size=30),
    some.text("#: '\"[]{}&*!|>%@`~,-?/\\=<0123456789.eyno", min_size=1, max_size=12),
    some.sampled_from(["yes", "010", "1e3", "2024-01-01", "~", "1:30", "<<", "0x1f", ".inf", "no"]),
)


@some.composite
def spelled_numbers(draw):
    """A positive number and one of its decimal spellings."""
    digits, exponent = draw(some.integers(1, 99_999)), draw(some.integers(-9, 3))
    at = draw(some.integers(0, len(str(digits))))
    whole, part = str(digits)[:at], str(digits)[at:]
    power = exponent + len(part)
    mantissa = f"{whole}.{part}" if part or draw(some.booleans()) else whole
    sign, e = draw(some.sampled_from(["", "+"])), draw(some.sampled_from("eE"))
    tail = f"{e}{draw(some.sampled_from(['', '+'])) if power >= 0 else ''}{power}"
    zeros = draw(some.sampled_from(["", "0"])) if not whole else ""
    return float(f"{digits}e{exponent}"), f"{sign}{zeros}{mantissa}{tail if power else ''}"


def in_file(folder, section, name, written):
    """The value of a field of a recipe file, as somebody wrote it there."""
    file = folder / "recipe.yaml"
    file.write_text(f"{section}:\n  {name}: {written}\n", encoding="utf-8")
    (setting,) = section_settings(read_yaml(file), section)
    return setting.value


@fast
@given(number=spelled_numbers())
def test_a_number_is_the_same_in_every_spelling_and_place(tmp_path_factory, number):
    value, spelling = number
    folder = tmp_path_factory.getbasetemp()
    assert read_change(f"pretrain.base_lr={spelling}").value == value
    assert in_file(folder, "pretrain", "base_lr", spelling) == value
    if value == int(value):
        assert read_change(f"pretrain.epochs={spelling}").value == value
        assert in_file(folder, "pretrain", "epochs", spelling) == value


@fast
@given(text=TEXTS)
def test_a_text_is_the_same_in_an_argument_and_in_a_file(tmp_path_factory, text):
    if text == "null":
        return  # unset; in quotes a file can have it as a text
    assert read_change(f"data.folder={text}").value == text
    assert in_file(tmp_path_factory.getbasetemp(), "data", "folder", quoted(text)) == text


@fast
@given(text=TEXTS)
def test_a_plain_text_in_a_file_is_what_is_written_or_refused(tmp_path_factory, text):
    """YAML itself strips a line and takes ` # more` for a comment; nothing else is changed."""
    try:
        found = in_file(tmp_path_factory.getbasetemp(), "data", "folder", text)
    except UserError:
        return
    said = text.split(" # ")[0].strip()
    if text.strip()[:1] in ("'", '"', "|", ">", "#", "&", "[", "{", "") or said in ("null", ""):
        return  # a quoted text, a block, a comment or an anchor: YAML's own words
    assert found == said.rstrip("#").rstrip() or found == said
