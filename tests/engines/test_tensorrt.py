"""TensorRT: plans that belong to where they run, the order of calls, float16 that stays close, and
TensorRT for RTX compiling the shipped network for real."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")

import engines  # noqa: E402
from engines import EngineError, available, build, load_engine, probe  # noqa: E402
from engines.gpu import GpuEngine  # noqa: E402
from engines.lanes import SerialLanes  # noqa: E402
from engines.plans import ANY_RTX, Key, Profile, StalePlan, fetch, serves, store  # noqa: E402
from engines.precision import KEPT, kept, layer_of, typed  # noqa: E402
from engines.tensorrt_engine import TensorRtNetwork, open_plan  # noqa: E402
from tests.engines import fake_tensorrt  # noqa: E402
from tests.engines.fake_tensorrt import FakeTensorRT  # noqa: E402
from tests.engines.toy_network import three_people, toy_model  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "weights"
RTX = find_spec("tensorrt_rtx") is not None
MEND = "python -m engines.build --engine tensorrt"
KEY = Key("tensorrt", "10.13.0", "a" * 64, "fp16", ("1x288x512",), "H200, sm_90", "Linux x86_64")


def silent(share, phase):
    """No progress on the screen."""


# Plans


def test_a_plan_is_found_again_by_what_it_was_made_from(tmp_path):
    path = store(KEY, b"plan", tmp_path / "plans", seconds=3)

    assert fetch(KEY, tmp_path / "plans", MEND) == b"plan"
    assert json.loads(path.with_suffix(".json").read_text())["key"]["gpu"] == "H200, sm_90"
    if os.name == "posix":
        assert (tmp_path / "plans").stat().st_mode & 0o077 == 0  # plans are code that is run


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": "11.0.0"}, "version: made for 10.13.0, here 11.0.0"),
        ({"gpu": "L40S, sm_89"}, "GPU: made for H200, sm_90, here L40S, sm_89"),
        ({"network": "b" * 64}, "exported network: made for aaaaaaaaaaaa, here bbbbbbbbbbbb"),
        ({"precision": "fp32"}, "precision: made for fp16, here fp32"),
        ({"form": 99}, "form of plans: made for"),
    ],
)
def test_a_stale_plan_says_what_changed_and_how_to_mend_it(tmp_path, changed, said):
    store(KEY, b"plan", tmp_path)
    wanted = Key(**{**vars_of(KEY), **changed})

    with pytest.raises(StalePlan, match=re.escape(said)) as stale:
        fetch(wanted, tmp_path, MEND)
    assert MEND in str(stale.value)


def vars_of(key):
    return {name: getattr(key, name) for name in key.__dataclass_fields__}


def test_a_missing_plan_and_a_damaged_one_are_told_apart(tmp_path):
    with pytest.raises(EngineError, match="no plan is compiled yet. Make it: python -m") as missing:
        fetch(KEY, tmp_path, MEND)
    assert not isinstance(missing.value, StalePlan)
    path = store(KEY, b"a whole plan", tmp_path)
    path.write_bytes(b"a whole pl")
    with pytest.raises(StalePlan, match="damaged, 10 bytes"):
        fetch(KEY, tmp_path, MEND)


def test_notes_of_others_in_the_folder_do_no_harm(tmp_path):
    (tmp_path / "x.json").write_text("[1]")
    (tmp_path / "y.json").write_text("not json")
    store(KEY, b"plan", tmp_path)
    assert fetch(KEY, tmp_path, MEND) == b"plan"


@pytest.mark.parametrize(
    ("made", "here", "fits"),
    [(ANY_RTX, "SM89", True), (ANY_RTX, "SM75", False), ("SM86, SM89", "SM89", True),
     ("SM86", "SM89", False), ("H200, sm_90", "H200, sm_90", True), ("H200, sm_90", "H100", False)],
)  # fmt: skip
def test_a_plan_serves_the_gpus_it_was_made_for(made, here, fits):
    assert serves(made, here) is fits


def test_profiles_hold_every_picture_there_may_be():
    from engines.people import working_size

    made = build.profiles()
    for size in ((1080, 1920), (1920, 1080), (100, 1600), (1600, 100), (600, 600), (17, 250)):
        assert any(profile.holds(1, working_size(size)) for profile in made)
    assert made[0] == Profile((1, 288, 512), (1, 288, 512), (1, 288, 512))


# Building and running, against a stand-in


def compiled(trt, memory=True, **settings):
    model = toy_model(memory).SerializeToString()
    return build.compile_plan(trt, model, build.profiles(), say=silent, **settings)


def test_the_builder_is_asked_for_strong_typing_profiles_and_progress():
    trt, told = FakeTensorRT(), []
    build.compile_plan(
        trt, toy_model().SerializeToString(), build.profiles(batch=4), tf32=False,
        say=lambda share, phase: told.append(share),
    )  # fmt: skip

    assert ("create_network", 2) in trt.calls  # 1 << STRONGLY_TYPED
    assert ("clear_flag", trt.BuilderFlag.TF32) in trt.calls
    assert told == sorted(told) and told[-1] == 1.0 and len(told) > 5
    network = TensorRtNetwork("tensorrt", trt, compiled(trt), "cpu", MEND)
    assert network.states == ["memory"]
    assert network.engine.get_tensor_profile_shape("memory", 0)[0] == [1, 3, 18, 32]


def test_strong_typing_is_the_only_way_from_eleven_on():
    trt = FakeTensorRT(version="11.0.0")
    compiled(trt)
    assert ("create_network", 0) in trt.calls


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("parse", "does not accept the network: In node 7"),
        ("add_optimization_profile", "do not fit the network's input"),
        ("build_serialized_network", "could not build the plan: out of fuel"),
    ],
)
def test_a_build_that_fails_says_why(call, said):
    trt = FakeTensorRT()
    trt.broken = call
    with pytest.raises(EngineError, match=said):
        compiled(trt)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("deserialize_cuda_engine", f"cannot be loaded: out of fuel. Make it anew: {MEND}"),
        ("create_execution_context", "no memory for 512 x 288: out of fuel"),
        ("set_optimization_profile_async", "cannot choose profile 0: out of fuel"),
        ("set_input_shape", "cannot be"),
        ("set_tensor_address", "image: out of fuel"),
        ("execute_async_v3", "did not run: out of fuel"),
    ],
)
def test_a_call_that_answers_no_is_an_error_with_its_reason(call, said):
    trt = FakeTensorRT()
    plan = compiled(trt)
    trt.broken = call
    with pytest.raises(EngineError, match=said):
        GpuEngine(TensorRtNetwork("tensorrt", trt, plan, "cpu", MEND), SerialLanes(), 0.3, 1)


def test_timings_are_kept_and_those_of_another_gpu_refused(tmp_path):
    trt, file = FakeTensorRT(), tmp_path / "gpu.timings"
    compiled(trt, timing=file)
    assert file.read_bytes() == b"+timing"
    compiled(trt, timing=file)
    assert file.read_bytes() == b"+timing+timing"
    trt.broken = "set_timing_cache"
    compiled(trt, timing=file)
    assert file.read_bytes() == b"+timing"


def test_each_size_takes_the_narrowest_profile_and_one_context():
    trt = FakeTensorRT()
    engine = GpuEngine(
        TensorRtNetwork("tensorrt", trt, compiled(trt), "cpu", MEND), SerialLanes(), 0.3, 3
    )
    for size in ((90, 160), (160, 90), (120, 120), (90, 160)):
        engine.step(three_people(0, size), None)

    assert [call for call in trt.calls if call[0] == "profile"] == [
        ("profile", 0), ("profile", 1), ("profile", 2),
    ]  # fmt: skip
    runs = [call for call in trt.calls if call[0] == "execute_async_v3"]
    assert len({image for _, _, image in runs}) >= 4  # every slot has memory of its own


def test_a_size_outside_of_the_plan_names_the_size_to_add():
    trt = FakeTensorRT()
    plan = build.compile_plan(
        trt, toy_model().SerializeToString(), build.profiles()[:1], say=silent
    )
    engine = GpuEngine(TensorRtNetwork("tensorrt", trt, plan, "cpu", MEND), SerialLanes(), 0.3, 1)
    with pytest.raises(EngineError, match=f"not hold 288 x 512, 1 at.*{MEND} --size 512x288"):
        engine.step(three_people(0, (160, 90)), None)


def test_a_plan_of_another_network_is_refused():
    trt = FakeTensorRT()
    model = toy_model()
    model.graph.output[0].name = "points"
    model.graph.node[-1].name = "x"
    for node in model.graph.node:
        node.output[:] = ["points" if name == "score" else name for name in node.output]
        node.input[:] = ["points" if name == "score" else name for name in node.input]
    plan = build.compile_plan(trt, model.SerializeToString(), build.profiles(), say=silent)
    with pytest.raises(EngineError, match="the plan has no tensor score"):
        TensorRtNetwork("tensorrt", trt, plan, "cpu", MEND)


def test_rtx_records_its_own_graphs_and_keeps_compiled_kernels(tmp_path):
    trt = FakeTensorRT("tensorrt_rtx", "1.7.1")
    plan = compiled(trt)
    for _ in range(2):
        network = TensorRtNetwork("tensorrt-rtx", trt, plan, "cpu", MEND, tmp_path)
        engine = GpuEngine(network, SerialLanes(), 0.3, 1)
        assert not engine._slots[0].binding((288, 512))[0].recordable
        engine.close()

    strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    assert ("set_runtime_cache", strategy) in trt.calls
    assert ("create_execution_context", True) in trt.calls
    assert ("kernels read", b"compiled kernels") in trt.calls  # the second time


def test_the_plan_of_the_command_is_the_plan_the_engine_opens(tmp_path, monkeypatch):
    trt = FakeTensorRT("tensorrt_rtx", "1.7.1")
    monkeypatch.setattr(build, "load_module", lambda backend: trt)
    monkeypatch.setattr("engines.tensorrt_engine.load_module", lambda backend: trt)
    onnx.save(toy_model(), str(tmp_path / "live.onnx"))
    words = ["--engine", "tensorrt-rtx", "--weights", str(tmp_path), "--plans", str(tmp_path / "p")]

    assert build.main([*words, "--precision", "fp32", "--size", "400x400"]) == 0
    network = open_plan("tensorrt-rtx", tmp_path, "fp32", tmp_path / "p", "cpu", gpu="SM89")
    mattes, _ = GpuEngine(network, SerialLanes(), 0.3, 1).step(three_people(0), None)

    assert len(mattes) == 3
    with pytest.raises(StalePlan, match=r"precision.*--engine tensorrt-rtx --weights"):
        open_plan("tensorrt-rtx", tmp_path, "fp16", tmp_path / "p", "cpu", gpu="SM89")


def test_a_build_without_the_package_or_the_gpu_says_which(tmp_path, capsys):
    if find_spec("tensorrt") is None:
        assert build.main(["--plans", str(tmp_path)]) == 6
        assert "tensorrt cannot be imported" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        build.main(["--target", "SM89"])
    assert "--target is for --engine tensorrt-rtx" in capsys.readouterr().err


def test_building_is_asked_about_without_loading_anything():
    """--help and --list work without torch, onnx and any of NVIDIA's packages."""
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'tensorrt', 'tensorrt_rtx'): sys.modules[name] = None\n"
        "from engines import build; build.main(['--list'])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


# Precision


@pytest.fixture(scope="module")
def exported():
    return onnx.load(str(WEIGHTS / "live.onnx"))


def test_float16_is_written_into_the_graph_and_the_outside_stays(exported):
    made = typed(exported, "fp16")
    onnx.checker.check_model(made)
    kinds = {value.name: value.type.tensor_type.elem_type for value in made.graph.value_info}
    halves = sum(kind == onnx.TensorProto.FLOAT16 for kind in kinds.values())
    floats = sum(kind == onnx.TensorProto.FLOAT for kind in kinds.values())

    assert halves > 2 * floats
    assert [out.type.tensor_type.elem_type for out in made.graph.output] == [1] * len(
        made.graph.output
    )
    casts = sum(node.op_type == "Cast" for node in made.graph.node)
    assert casts < 0.1 * len(made.graph.node)
    for node in made.graph.node:
        if kept(node) and node.op_type != "Cast" and layer_of(node):
            assert all(kinds.get(name) != onnx.TensorProto.FLOAT16 for name in node.output)


def test_every_rule_for_float32_still_meets_a_layer(exported):
    remembers = len(exported.graph.input) > 1
    for rule in KEPT:
        assert (rule.layers == "memory" and not remembers) or any(
            re.fullmatch(rule.operators, node.op_type) and re.fullmatch(rule.layers, layer_of(node))
            for node in exported.graph.node
        ), rule.reason


def test_constants_that_float16_cannot_hold_stay_float32():
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "big"], ["y"]),
            helper.make_node("Mul", ["y", "small"], ["z"]),
        ],
        "g", [value("x", TensorProto.FLOAT, [2])], [value("z", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.float32([1e6]), "big"),
         numpy_helper.from_array(np.float32([1e-6]), "small")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    made = typed(model, "fp16", keep=lambda node: node.output[0] == "y")
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    assert {tensor.name for tensor in made.graph.initializer} >= {"big"}

    everything = typed(model, "fp16", keep=lambda node: False)
    assert "big" in {tensor.name for tensor in everything.graph.initializer}
    found = session.run(None, {"x": np.float32([1, 0.01])})[0]
    assert found[1] == pytest.approx(0.01, rel=0.1)


def test_the_comparison_of_layers_really_rounds():
    """ONNX Runtime leaves roundings between layers out; bench.precision puts them in."""
    from onnx import TensorProto, helper, numpy_helper

    from bench.precision import session_of

    rng = np.random.default_rng(0)
    # whole numbers: float32 sums them exactly in any order, float16 has to round
    w = [
        rng.integers(low, high, shape).astype(np.float32)
        for low, high, shape in ((0, 17, (8, 3, 3, 3)), (-1, 2, (4, 8, 3, 3)))
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w0"], ["y"]),
            helper.make_node("Conv", ["y", "w1"], ["z"]),
        ],
        "g", [value("x", TensorProto.FLOAT, [1, 3, 12, 12])],
        [value("z", TensorProto.FLOAT, [1, 4, 8, 8])],
        [numpy_helper.from_array(part, f"w{i}") for i, part in enumerate(w)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = session_of(typed(model, "fp16", keep=lambda node: False))
    x = rng.integers(0, 65, (1, 3, 12, 12)).astype(np.float32)
    half = [torch.from_numpy(part).half().float() for part in (x, *w)]
    y = torch.conv2d(half[0], half[1])
    rounded, wide = (torch.conv2d(a, half[2]).half().float() for a in (y.half().float(), y))

    assert not torch.equal(rounded, wide)
    assert np.array_equal(session.run(["z"], {"x": x})[0], rounded.numpy())


def small_published(tmp_path):
    """The published network with every channel count divided by 8 and fewer of each block: the
    operators are those of the whole one."""
    from matting.network.published import export
    from matting.network.published.network import PublishedNetwork, Sizes

    torch.manual_seed(0)
    network = PublishedNetwork(Sizes(layers=1, depths=(1, 1, 1, 1), thin=8)).eval()
    export.export(network, tmp_path / "published.onnx", people=4)
    return onnx.load(str(tmp_path / "published.onnx"))


@pytest.mark.skipif(not RTX, reason="tensorrt_rtx is not installed: pip install '.[tensorrt-rtx]'")
@pytest.mark.parametrize("network", ["live", "published"])
def test_tensorrt_for_rtx_compiles_both_networks_in_float16(exported, network, tmp_path):
    """Its parser and builder, for real, on any machine: this fails when an operator of a network
    stops being accepted.  Running the plan needs a GPU."""
    import tensorrt_rtx as trt

    model = exported if network == "live" else small_published(tmp_path)
    h, w = build.TUNED[0] if network == "live" else (128, 160)
    made, told = typed(model, "fp16"), []
    halves = sum(value.type.tensor_type.elem_type == 10 for value in made.graph.value_info)
    plan = build.compile_plan(
        trt, made.SerializeToString(), [Profile((1, h, w), (1, h, w), (1, h, w))],
        targets=["SM89"], say=lambda share, phase: told.append(share),
    )  # fmt: skip

    assert halves > 400
    assert len(plan) > 2_000_000
    assert told[-1] == 1.0


@pytest.mark.skipif(not RTX, reason="tensorrt_rtx is not installed: pip install '.[tensorrt-rtx]'")
def test_tensorrt_for_rtx_says_which_operator_it_does_not_accept():
    import tensorrt_rtx as trt
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["image"], ["where"], name="find")], "g",
        [value("image", TensorProto.FLOAT, [4, 4])], [value("where", TensorProto.INT64, [2, "n"])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(EngineError, match="tensorrt_rtx does not accept the network: .*NonZero"):
        build.compile_plan(trt, model.SerializeToString(), [], say=silent)
    with pytest.raises(EngineError, match="builds for SM75.*there is no SM90"):
        build._capability(trt, "SM90")


@pytest.mark.skipif(not RTX, reason="tensorrt_rtx is not installed: pip install '.[tensorrt-rtx]'")
def test_the_stand_in_has_no_call_that_the_real_module_lacks():
    import tensorrt_rtx as trt

    pairs = {
        "_Builder": trt.Builder, "_Parser": trt.OnnxParser, "_Profile": trt.IOptimizationProfile,
        "_Config": trt.IBuilderConfig, "_Runtime": trt.Runtime, "_Engine": trt.ICudaEngine,
        "_Context": trt.IExecutionContext, "_RuntimeConfig": trt.IRuntimeConfig,
        "DataType": trt.DataType, "TensorIOMode": trt.TensorIOMode, "BuilderFlag": trt.BuilderFlag,
        "MemoryPoolType": trt.MemoryPoolType, "CudaGraphStrategy": trt.CudaGraphStrategy,
        "NetworkDefinitionCreationFlag": trt.NetworkDefinitionCreationFlag,
        "ComputeCapability": trt.ComputeCapability,
    }  # fmt: skip
    made_up = [
        f"{name}.{call}"
        for name, real in pairs.items()
        for call in vars(getattr(fake_tensorrt, name))
        if not call.startswith("_") and not hasattr(real, call)
    ]
    assert made_up == []


# What can run here


def test_every_gpu_backend_says_why_it_cannot_run_here():
    told = {found.name: found for found in available(WEIGHTS)}
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert not any(told[name].ok for name in probe.ON_GPU)
    assert "no CUDA device is visible" in told["torch-cuda"].reason
    if RTX:
        assert "it can compile here (python -m engines.build)" in told["tensorrt-rtx"].reason


@pytest.mark.parametrize(
    "error", [Exception("a bare one"), AssertionError("no CUDA"), OSError("libnvinfer.so.11")]
)
@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx", "torch-tensorrt"])
def test_a_package_that_cannot_be_imported_is_a_reason_not_a_crash(monkeypatch, name, error):
    def broken(module):
        raise error

    monkeypatch.setattr(probe, "find_spec", lambda module: object())
    monkeypatch.setattr(probe, "_gpu", lambda: (True, "H200"))
    monkeypatch.setattr(probe, "import_module", broken)
    ok, reason = probe.probe(name, WEIGHTS)
    assert not ok and str(error) in reason


def test_a_list_of_engines_falls_back_with_the_reason_of_each(tmp_path, monkeypatch):
    """A plan that is stale is a reason to take the next on the list, and is told."""
    monkeypatch.setattr(engines, "_probe", lambda name, weights: (True, "H200"))
    monkeypatch.setattr(
        engines, "_load_gpu", lambda *_: (_ for _ in ()).throw(StalePlan(f"x is stale. {MEND}"))
    )
    told = []
    engine = load_engine(["tensorrt", "onnxruntime"], WEIGHTS, threads=1, log=told.append)
    assert engine.name == "onnxruntime"
    assert told == [f"running on onnxruntime, because tensorrt: x is stale. {MEND}"]
    with pytest.raises(StalePlan):
        engines._load_gpu()
