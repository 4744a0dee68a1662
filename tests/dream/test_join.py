"""Products of the same rows as one: the same tokens, names and values, and no second copy."""

from __future__ import annotations

import pytest
import torch

from dream import Engine, EngineConfig
from dream.engine import prepare
from dream.model.join import join_products
from dream.model.loader import load_model
from dream.model.modeling import MLP, Attention, DreamModel
from tests.dream.test_no_waiting import SETTINGS, wanted
from tests.models import GOLDEN, golden_engine, golden_model


@pytest.fixture(scope="module")
def joined() -> DreamModel:
    """A model of its own: joining changes it in place."""
    model = load_model(GOLDEN / "ckpt_a", dtype=torch.float32, device="cpu")
    join_products(model)
    return model


def test_joined_products_give_the_same_tokens_for_all_kinds_of_requests(joined):
    requests = [wanted(name, **params) for name, params in SETTINGS.items()]

    found = Engine(joined, None, EngineConfig()).generate(requests)

    plain = golden_engine().generate(requests)
    assert [one.token_ids for one in found] == [one.token_ids for one in plain]


def test_joined_products_are_those_of_the_layers_for_few_and_many_rows(joined):
    random = torch.Generator().manual_seed(0)
    attention = joined.model.layers[0].self_attn
    for num_rows in (1, 3, 4, 70):
        x_TE = torch.randn(num_rows, joined.config.hidden_size, generator=random)
        for layer, part in zip(
            (attention.q_proj, attention.k_proj, attention.v_proj),
            attention.joined(x_TE).split(
                [attention.q_proj.out_features, *[attention.k_proj.out_features] * 2], -1
            ),
            strict=True,
        ):
            torch.testing.assert_close(part, layer(x_TE))


@pytest.mark.parametrize("lengths", prepare.LENGTHS)
def test_the_first_forwards_run(joined, lengths):
    prepare._first_forward(joined, lengths)


def test_parameters_keep_their_names_and_values(joined):
    plain = golden_model().state_dict()
    found = joined.state_dict()

    assert list(found) == list(plain)
    assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_parameters_are_parts_of_the_joined_weights(joined):
    for module in joined.modules():
        layers = ()
        if isinstance(module, Attention):
            layers = (module.q_proj, module.k_proj, module.v_proj)
        elif isinstance(module, MLP):
            layers = (module.gate_proj, module.up_proj)
        for layer in layers:
            storage = module.joined.weight.untyped_storage()
            assert layer.weight.untyped_storage().data_ptr() == storage.data_ptr()
        if layers:
            size = sum(layer.weight.nbytes for layer in layers)
            assert module.joined.weight.untyped_storage().nbytes() == size


def test_values_loaded_later_reach_the_joined_weights(joined):
    state = {name: tensor.clone() for name, tensor in joined.state_dict().items()}
    layer = joined.model.layers[0]
    name = "model.layers.0.mlp.up_proj.weight"

    joined.load_state_dict({**state, name: state[name] + 1})

    size = layer.mlp.gate_proj.out_features
    assert torch.equal(layer.mlp.joined.weight[size:], state[name] + 1)
    joined.load_state_dict(state)


def test_joining_again_changes_nothing_and_what_is_trained_stays_apart(joined):
    before = [module.joined for module in joined.modules() if isinstance(module, Attention)]
    trained = DreamModel(golden_model().config)

    join_products(joined)
    join_products(trained)

    after = [module.joined for module in joined.modules() if isinstance(module, Attention)]
    assert all(one is other for one, other in zip(before, after, strict=True))
    assert all(module.joined is None for module in trained.modules() if isinstance(module, MLP))
