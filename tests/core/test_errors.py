from trainshed.core import UserError, unknown_name
from trainshed.core.errors import not_installed


def test_the_sentence_names_place_value_and_what_would_be_right() -> None:
    error = UserError(
        "not a quantity", where="chip.toml line 3, hbm_capacity", value="96", expected="a number and unit"
    )
    assert str(error) == "chip.toml line 3, hbm_capacity: not a quantity: '96'; expected a number and unit."
    assert error.to_json() == {
        "what": "not a quantity", "where": "chip.toml line 3, hbm_capacity", "value": "96",
        "expected": "a number and unit",
    }  # fmt: skip


def test_an_unknown_name_suggests_the_nearest() -> None:
    assert "trn3-gen2" in str(unknown_name("system", "trn3gen2", ["trn3-gen2", "p5", "trn1"], where="--on"))


def test_an_absent_library_is_named_with_the_command_that_installs_it() -> None:
    sentence = str(not_installed("matplotlib", extra="plots", where="--plot"))
    assert sentence == "--plot: not installed: 'matplotlib'; expected pip install 'trainshed[plots]'."
