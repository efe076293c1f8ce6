"""Where recipes lie: the shipped ones by name, any other by path; reads headers without reading configs."""

from dataclasses import dataclass
from pathlib import Path

from .errors import InputError, suggestion
from .recipe_yaml import MAX_CHARACTERS, read_yaml

SUFFIXES = (".yaml", ".yml")
_NOT_RECIPES = ("accelerate", "sweeps")


@dataclass(frozen=True)
class RecipeInfo:
    """A shipped recipe at a glance.

    Args:
        name: What `find_recipe` takes, such as `concept_unlearn/smollm2`.
        path: Its file.
        method: The method that it runs.
        purpose: The first line of its header.
        header: The whole comment that opens the file, without the `#`.
    """

    name: str
    path: Path
    method: str
    purpose: str
    header: str


def recipes_folder() -> Path:
    """Return the folder of the shipped recipes: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def find_recipe(name_or_path: str | Path) -> Path:
    """Return the file of a recipe.

    Args:
        name_or_path: A path, the name of a shipped recipe (`quickstart`, `concept_unlearn/smollm2`), or the last
            part of such a name when only one recipe ends in it.

    Raises:
        InputError: If there is no such recipe, or several; the message lists what there is.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    shipped = _shipped()
    name = path.with_suffix("").as_posix() if path.suffix in SUFFIXES else path.as_posix()
    if name in shipped:
        return shipped[name]
    candidates = [known for known in shipped if known.rsplit("/", 1)[-1] == name]
    if len(candidates) == 1:
        return shipped[candidates[0]]
    if candidates:
        raise InputError(f"'{name_or_path}' could be any of {', '.join(candidates)}; give the full name.")
    what = "is a folder, not a recipe file" if path.is_dir() else "is neither a file nor a shipped recipe"
    raise InputError(
        f"'{name_or_path}' {what}. Shipped recipes: {', '.join(shipped) or 'none'}.{suggestion(name, shipped)}"
    )


def list_recipes() -> list[RecipeInfo]:
    """Return all shipped recipes, sorted by name, without importing what they would run.

    Raises:
        InputError: If a shipped file is not a recipe.
    """
    infos = []
    for name, path in _shipped().items():
        text = read_recipe_text(path)
        entries = read_yaml(text, str(path))
        if "method" not in entries:
            raise InputError(f"{path}: the key 'method' is missing.")
        header = _header(text)
        purpose = header.splitlines()[0] if header else ""
        infos.append(RecipeInfo(name, path, str(entries["method"].value), purpose, header))
    return infos


def read_recipe_text(path: Path) -> str:
    """Return the text of a recipe file.

    Raises:
        InputError: If the file cannot be read, is too large or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(4 * MAX_CHARACTERS + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(data) > 4 * MAX_CHARACTERS:
        raise InputError(f"{path} is too large for a recipe.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8.") from error


def _shipped() -> dict[str, Path]:
    folder = recipes_folder()
    paths = {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for suffix in SUFFIXES
        for path in folder.rglob(f"*{suffix}")
        if path.relative_to(folder).parts[0] not in _NOT_RECIPES
    }
    return dict(sorted(paths.items()))


def _header(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
    return "\n".join(lines).strip()
