"""Every per-item total of the published configurations, and the same totals counted in a slow, literal way."""

import pytest

from recqueue.models import Kind, Model, get, names

# Totals derived by hand from the configurations in the authors' repository; op counts are SLS / FC / Concat / Sum.
TOTALS = {
    "dlrm-rmc1": (100_416, {"bottom": 10_240, "top": 90_176}, 100_833, 81_920, "4.096", (8, 5, 1, 0)),
    "dlrm-rmc2": (319_552, {"bottom": 40_960, "top": 278_592}, 319_937, 983_040, "4.096", (32, 5, 1, 0)),
    "dlrm-rmc3": (3_203_328, {"bottom": 2_891_776, "top": 311_552}, 3_205_409, 25_600, "2.560", (10, 6, 1, 0)),
    "ncf": (147_456, {"deep": 139_264, "final": 8_192}, 148_224, 1_024, "0.086", (4, 5, 2, 1)),
    "ncf-published": (147_456, {"deep": 139_264, "final": 8_192}, 148_224, 1_536, "0.086", (6, 5, 2, 1)),
    "wide-and-deep": (2_064_640, {"top": 2_064_640}, 2_066_433, 3_456, "3.456", (27, 4, 1, 0)),
    "mt-wnd": (2_621_440, {"shared": 2_457_600, "task": 163_840}, 2_623_360, 5_504, "3.904", (43, 4, 1, 0)),
    "din-published": (41_888, {"attention": 128, "top": 41_760}, 42_203, 1_536, "2.701", (4, 5, 2, 2)),
    "din": (73_888, {"attention": 251 * 128, "top": 41_760}, 82_453, 97_536, "5.901", (254, 505, 252, 252)),
    "dien": (
        785_440,
        {"rnn_1": 245_760, "attention": 163_840, "rnn_2": 327_680, "top": 48_160},
        # not in the published totals; by hand: 32>64, 64>64 recurrent, 64>64, 64>64, 64>64 recurrent, 160>200>80>2
        32 * 64 + 64 + 4 * (64 * 64 + 64) + 160 * 200 + 200 + 200 * 80 + 80 + 80 * 2 + 2,
        5_504,
        "3.904",
        (43, 6, 2, 1),
    ),
}
ACTIVATIONS = {  # ReLU / sigmoid / recurrent cells
    "dlrm-rmc1": (4, 1, 0),
    "dlrm-rmc2": (4, 1, 0),
    "dlrm-rmc3": (5, 1, 0),
    "wide-and-deep": (3, 1, 0),
    "mt-wnd": (3, 1, 0),
    "ncf": (5, 0, 0),
    "din": (505, 0, 0),
    "dien": (3, 0, 2),
}
VERIFIED = [name for name in names(include_variants=True) if get(name).verified]


def test_every_verified_model_has_its_totals_checked():
    assert set(VERIFIED) == set(TOTALS)


@pytest.mark.parametrize("name", TOTALS)
def test_published_totals(name):
    macs, by_part, parameters, embedding_bytes, storage_gb, (sls, fc, concat, added) = TOTALS[name]
    model = get(name)
    counts = model.operator_counts
    assert model.mac_per_item == macs == sum(by_part.values())
    assert model.mac_by_part == by_part
    assert model.mlp_parameters == parameters
    assert model.embedding_bytes_read_per_item == embedding_bytes
    assert f"{model.table_storage_bytes / 1e9:.3f}" == storage_gb  # as printed, to the megabyte
    assert [counts.get(k, 0) for k in (Kind.EMBEDDING_BAG, Kind.FC, Kind.CONCAT, Kind.SUM)] == [sls, fc, concat, added]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_published_activations_and_cells(name):
    counts = get(name).operator_counts
    assert tuple(counts.get(k, 0) for k in (Kind.RELU, Kind.SIGMOID, Kind.RECURRENT)) == ACTIVATIONS[name]


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("dlrm-rmc1", [(128, 64), (64, 32), (288, 256), (256, 64), (64, 1)]),
        ("dlrm-rmc2", [(256, 128), (128, 64), (2112, 128), (128, 64), (64, 1)]),
        ("dlrm-rmc3", [(2560, 1024), (1024, 256), (256, 32), (352, 512), (512, 256), (256, 1)]),
        ("ncf", [(128, 256), (256, 256), (256, 128), (128, 64), (128, 64)]),
        ("wide-and-deep", [(1376, 1024), (1024, 512), (512, 256), (256, 1)]),
        ("mt-wnd", [(1888, 1024), (1024, 512), (512, 256), (256, 128)]),
        ("din-published", [(96, 1), (1, 32), (128, 200), (200, 80), (80, 2)]),
        ("dien", [(32, 64), (64, 64), (64, 64), (160, 200), (200, 80), (80, 2)]),
    ],
)
def test_published_layer_widths(name, widths):
    layers = [(op.sizes["in_width"], op.sizes["out_width"]) for op in get(name).operators if op.kind is Kind.FC]
    assert layers == widths


def test_input_bytes():
    assert get("dlrm-rmc1").feed_bytes_per_item == 8 * 80 * 8 + 128 * 4
    assert get("wide-and-deep").feed_bytes_per_item == 27 * 8 + 512 * 4
    assert get("dien").feed_bytes_per_item == 43 * 8  # its 512 dense features are unused
    # gathering a table twice sends its ids once
    assert get("ncf-published").feed_bytes_per_item == get("ncf").feed_bytes_per_item == 4 * 8
    assert get("dlrm-rmc1").feed_bytes(64) == 64 * 5632
    assert get("dlrm-rmc3").dense_inputs == 2560


def literal_work(model: Model, items: int) -> tuple[int, int, int]:
    """FLOPs and bytes by going through what each operator touches, item by item and step by step."""
    flops = read = written = 0
    for op in model.operators:
        s = op.sizes
        if op.kind is Kind.DENSE_INPUT:
            continue
        if op.kind is Kind.FC:
            read += 4 * (s["in_width"] + 1) * s["out_width"]
        if op.kind is Kind.RECURRENT:
            read += 4 * s["steps"] * (s["hidden"] + 1) * s["hidden"]
        for _ in range(items):
            if op.kind is Kind.EMBEDDING_BAG:
                read += s["lookups"] * (8 + 4 * s["dim"])
                flops += sum(s["dim"] for _ in range(1, s["lookups"]))
                written += 4 * s["dim"]
                continue
            for _ in range(op.sizes.get("steps", 1)):
                if op.kind is Kind.FC:
                    flops += sum(2 * s["in_width"] + 1 for _ in range(s["out_width"]))
                    read += 4 * s["in_width"]
                elif op.kind is Kind.RECURRENT:
                    flops += sum(2 * s["hidden"] + 1 + 1 + 1 for _ in range(s["hidden"]))
                    read += 4 * (s["hidden"] + s["hidden"])
                elif op.kind is Kind.SUM:
                    flops += s["width"] * (s["inputs"] - 1)
                    read += 4 * s["width"] * s["inputs"]
                elif op.kind is Kind.SOFTMAX:
                    flops += (s["width"] - 1) + s["width"] + s["width"] + (s["width"] - 1) + s["width"]
                    read += 4 * s["width"]
                elif op.kind in (Kind.RELU, Kind.SIGMOID, Kind.TANH):
                    flops += s["width"]
                    read += 4 * s["width"]
                elif op.kind is not Kind.LAST_STEP:
                    read += 4 * s["width"]
                if op.kind is not Kind.LAST_STEP:
                    written += 4 * op.out_width
            if op.kind is Kind.LAST_STEP:
                read += 4 * s["width"]
                written += 4 * s["width"]
    return flops, read, written


@pytest.mark.parametrize("name", names(include_variants=True))
@pytest.mark.parametrize("items", [1, 3])
def test_totals_agree_with_a_literal_count(name, items):
    model = get(name)
    assert (model.flops(items), model.bytes_read(items), model.bytes_written(items)) == literal_work(model, items)
