"""A checkpoint is whole or not there; damage is noticed; state comes back bit for bit."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from countersteer.errors import UserError
from countersteer.storage import checkpoint
from countersteer.storage.checkpoint import CheckpointFolder, flatten_state, load, save, unflatten_state


def tensors_of_all_kinds() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    wide = torch.randn(4, 6, generator=generator)
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-45])
    return {
        "float32": wide,
        "transposed": wide.T,
        "slice": wide[1:3, ::2],
        "special": special,
        "half": wide.half(),
        "bfloat16": wide.bfloat16(),
        "double": wide.double(),
        "int64": torch.tensor([-(2**63), 2**63 - 1]),
        "uint8": torch.arange(7, dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
    }


def same_bits(a: Tensor, b: Tensor) -> bool:
    def raw(tensor: Tensor) -> Tensor:
        return tensor.contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else tensor.reshape(-1)

    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(raw(a), raw(b))


METADATA = {"step": 3, "recipe": {"type": "x:Y", "rate": 1e-3}, "note": 'quotes " and ü', "none": None}


def test_tensors_and_metadata_come_back_bit_for_bit(tmp_path: Path):
    tensors = tensors_of_all_kinds()
    save(tmp_path / "a.safetensors", tensors, METADATA)
    back, metadata = load(tmp_path / "a.safetensors")
    assert metadata == METADATA
    assert back.keys() == tensors.keys()
    for name, value in tensors.items():
        assert same_bits(back[name], value), name


def test_tied_weights_can_be_saved(tmp_path: Path):
    weight = torch.arange(6.0)
    save(tmp_path / "a.safetensors", {"one": weight, "two": weight, "part": weight[2:4]}, {})
    back, _ = load(tmp_path / "a.safetensors")
    assert torch.equal(back["one"], weight)
    assert torch.equal(back["two"], weight)
    assert torch.equal(back["part"], weight[2:4])


def test_any_safetensors_reader_can_open_the_file(tmp_path: Path):
    from safetensors.torch import load_file

    save(tmp_path / "a.safetensors", {"w": torch.arange(5.0)}, METADATA)
    assert torch.equal(load_file(tmp_path / "a.safetensors")["w"], torch.arange(5.0))


def small_file(folder: Path) -> tuple[Path, bytes]:
    path = folder / "small.safetensors"
    save(path, {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor([1, 2])}, {"step": 7})
    return path, path.read_bytes()


def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path):
    path, content = small_file(tmp_path)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=str(path)):
            load(path)


def test_a_file_with_bytes_added_is_refused(tmp_path: Path):
    path, content = small_file(tmp_path)
    path.write_bytes(content + b"\0")
    with pytest.raises(UserError, match="damaged"):
        load(path)


def test_one_flipped_bit_anywhere_never_changes_what_is_read(tmp_path: Path):
    """Every byte of the file is hit in turn; a flip is refused, or (spaces of the header) changes nothing."""
    path, content = small_file(tmp_path)
    expected, metadata = load(path)
    header = 8 + int.from_bytes(content[:8], "little")
    draw = random.Random(5)
    accepted = 0
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            back, meta = load(path)
        except UserError:
            continue
        accepted += 1
        assert position < header
        assert meta == metadata
        assert back.keys() == expected.keys()
        assert all(same_bits(back[name], expected[name]) for name in expected)
    assert accepted <= 2, "flips outside the padding went unnoticed"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not ours", b"\xff" * 64, b"{}"])
def test_other_files_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(UserError) as error:
        load(tmp_path / "x.safetensors")
    assert error.value.got is not None
    assert error.value.expected is not None
    assert error.value.fix is not None


def test_a_safetensors_file_of_somebody_else_is_refused(tmp_path: Path):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="not a countersteer file"):
        load(tmp_path / "x.safetensors")


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"gone\.safetensors does not exist"):
        load(tmp_path / "gone.safetensors")


def test_a_failed_save_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, content = small_file(tmp_path)

    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(path, {"w": torch.ones(3)}, {"step": 8})
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == [path.name]


def test_writers_of_the_same_file_do_not_meet(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for _ in range(10):
                save(path, {"w": torch.full((1000,), float(number))}, {"number": number})
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    back, metadata = load(path)
    assert torch.equal(back["w"], torch.full((1000,), float(metadata["number"])))
    assert os.listdir(tmp_path) == [path.name]


def filled(folder: Path, *steps: int) -> CheckpointFolder:
    checkpoints = CheckpointFolder(folder)
    for step in steps:
        checkpoints.save(step, {"w": torch.full((50,), float(step))}, {"step": step})
    return checkpoints


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_an_empty_folder_has_no_latest(tmp_path: Path):
    assert CheckpointFolder(tmp_path / "never").latest() is None
    assert filled(tmp_path).latest() is None


def test_the_newest_three_are_kept_under_padded_names(tmp_path: Path):
    checkpoints = filled(tmp_path, 500, 1000, 1500, 2000, 2500)
    assert sorted(os.listdir(tmp_path)) == [f"step_{step:08d}.safetensors" for step in (1500, 2000, 2500)]
    found = checkpoints.latest()
    assert found is not None
    assert (found.step, found.metadata, found.warnings) == (2500, {"step": 2500}, ())


def test_the_last_good_one_is_found_and_the_skipped_ones_are_named(tmp_path: Path):
    checkpoints = filled(tmp_path, 1, 2, 3)
    damage(tmp_path / "step_00000003.safetensors")
    (tmp_path / "step_00000002.safetensors").write_bytes(b"cut")
    found = checkpoints.latest()
    assert found is not None
    assert found.step == 1
    assert torch.equal(found.tensors["w"], torch.full((50,), 1.0))
    assert len(found.warnings) == 2
    assert "step_00000003" in found.warnings[0]
    assert "checksum" in found.warnings[0]
    assert "step_00000002" in found.warnings[1]
    assert "3 bytes" in found.warnings[1]


def test_a_folder_of_damaged_checkpoints_does_not_pass_for_an_empty_one(tmp_path: Path):
    checkpoints = filled(tmp_path, 1, 2)
    for file in tmp_path.iterdir():
        damage(file)
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read"):
        checkpoints.latest()


def test_damaged_later_files_do_not_push_out_what_is_saved_after_them(tmp_path: Path):
    checkpoints = filled(tmp_path, 10, 20, 30, 40)
    for step in (20, 30, 40):
        damage(tmp_path / f"step_{step:08d}.safetensors")
    for step in (11, 12):
        checkpoints.save(step, {"w": torch.zeros(1)}, {"step": step})
        found = checkpoints.latest()
        assert found is not None
        assert found.step == step


def test_foreign_files_in_the_folder_are_left_alone(tmp_path: Path):
    (tmp_path / "step_final.safetensors").write_bytes(b"mine")
    (tmp_path / ".step_notes").write_bytes(b"mine")
    checkpoints = filled(tmp_path, 1, 2, 3, 4)
    assert (tmp_path / "step_final.safetensors").read_bytes() == b"mine"
    assert (tmp_path / ".step_notes").read_bytes() == b"mine"
    found = checkpoints.latest()
    assert found is not None
    assert found.step == 4


# Forks children that save in a loop and kills each with SIGKILL; prints the steps found after each kill.
KILLS = """
import os, random, signal, sys, time
import torch
from countersteer.storage.checkpoint import CheckpointFolder

torch.set_num_threads(1)
folder, draw = CheckpointFolder(sys.argv[1]), random.Random(11)
folder.save(0, {"w": torch.zeros(2_000_000)}, {"step": 0})
for kill in range(25):
    start = folder.latest().step
    child = os.fork()
    if child == 0:
        for step in range(start + 1, start + 1_000):
            folder.save(step, {"w": torch.full((2_000_000,), float(step))}, {"step": step})
        os._exit(0)
    time.sleep(draw.uniform(0.0, 0.12))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = folder.latest()
    whole = bool((found.tensors["w"] == found.step).all()) and found.metadata["step"] == found.step
    print(found.step, whole, found.step >= start, *found.warnings)
folder.save(found.step + 1, {"w": torch.zeros(1)}, {})
"""

# Dies, as by a kill, at the n-th call of one of the functions that a save is made of.
DEATHS = """
import os, sys
import torch
from countersteer.storage import checkpoint

folder = checkpoint.CheckpointFolder(sys.argv[1])
folder.save(0, {"w": torch.full((50_000,), 0.0)}, {"step": 0})
for function in ("fsync", "replace", "chmod", "close", "open"):
    for after in (False, True):
        child = os.fork()
        if child == 0:
            real = getattr(os, function)
            def dying(*arguments, real=real, after=after, **named):
                if after:
                    real(*arguments, **named)
                os._exit(9)
            setattr(os, function, dying)
            folder.save(1, {"w": torch.full((50_000,), 1.0)}, {"step": 1})
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, function
        found = folder.latest()
        print(function, after, found.step, bool((found.tensors["w"] == found.step).all()), *found.warnings)
        (folder.path / "step_00000001.safetensors").unlink(missing_ok=True)
folder.save(2, {"w": torch.zeros(1)}, {})
"""


def run_script(script: str, folder: Path) -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def test_a_loadable_checkpoint_always_survives_a_kill(tmp_path: Path):
    lines = run_script(KILLS, tmp_path)
    assert len(lines) == 25
    for line in lines:
        assert line[1:] == ["True", "True"], line
    assert int(lines[-1][0]) > 0, "no child ever saved anything: the test proves nothing"
    litter = [name for name in os.listdir(tmp_path) if not name.startswith("step_")]
    assert litter == [], "what killed processes left is not cleared by the next save"


def test_death_at_each_stage_of_a_save_leaves_the_old_or_the_new(tmp_path: Path):
    lines = run_script(DEATHS, tmp_path)
    assert len(lines) == 10
    steps = {(line[0], line[1]): line[2:] for line in lines}
    assert steps[("fsync", "False")] == ["0", "True"]
    assert steps[("replace", "False")] == ["0", "True"]
    assert steps[("replace", "True")] == ["1", "True"]
    assert all(line[3:] == ["True"] for line in lines)
    litter = [name for name in os.listdir(tmp_path) if not name.startswith("step_")]
    assert litter == []


def test_an_optimizer_and_its_random_state_go_on_bit_for_bit(tmp_path: Path):
    def build() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        return model, torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.85, 0.99))

    def steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            model(torch.randn(16, 5)).square().mean().backward()
            optimizer.step()

    model, optimizer = build()
    steps(model, optimizer, 3)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
    tensors, structure = flatten_state(state)
    save(tmp_path / "a.safetensors", tensors, {"structure": structure})
    steps(model, optimizer, 4)
    expected = [p.detach().clone() for p in model.parameters()]

    model, optimizer = build()
    tensors, metadata = load(tmp_path / "a.safetensors")
    back = unflatten_state(tensors, metadata["structure"])
    model.load_state_dict(back["model"])
    optimizer.load_state_dict(back["optimizer"])
    torch.set_rng_state(back["rng"])
    steps(model, optimizer, 4)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), expected, strict=True))


def test_nested_states_keep_their_keys_and_kinds(tmp_path: Path):
    state = {
        0: {"a.b": torch.ones(2), "a": {"b": torch.zeros(2)}},
        "list": [1, 2.5, None, True, "text", float("inf")],
        "tuple": (0.9, 0.999),
        "empty": {},
    }
    tensors, structure = flatten_state(state)
    save(tmp_path / "a.safetensors", tensors, {"structure": structure})
    tensors, metadata = load(tmp_path / "a.safetensors")
    back = unflatten_state(tensors, metadata["structure"])
    assert torch.equal(back[0].pop("a.b"), torch.ones(2))
    assert torch.equal(back[0]["a"].pop("b"), torch.zeros(2))
    assert back == {
        0: {"a": {}},
        "list": [1, 2.5, None, True, "text", float("inf")],
        "tuple": (0.9, 0.999),
        "empty": {},
    }


def test_flattened_state_is_a_copy():
    weight = torch.zeros(3)
    tensors, structure = flatten_state({"w": weight})
    weight += 1
    assert torch.equal(unflatten_state(tensors, structure)["w"], torch.zeros(3))


def test_what_a_state_cannot_hold_is_refused():
    with pytest.raises(TypeError, match="object"):
        flatten_state({"x": object()})
