"""Any examples, masks and retrained outputs: kept with their values, or refused in a sentence that names them."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trakflow.data.arrays import read_array
from trakflow.data.examples import Examples, as_examples, check_examples, read_arrays, read_ids, write_examples
from trakflow.errors import DataError, StoreError, TrakflowError
from trakflow.evaluation.lds import check_evaluation
from trakflow.store.array_file import ArrayFile, write_arrays
from trakflow.store.numpy_files import map_numpy, write_numpy

SIZE, CLASSES = 3, 4
DTYPES = (
    arrays.floating_dtypes(endianness="?")
    | arrays.integer_dtypes(endianness="?")
    | arrays.unsigned_integer_dtypes(endianness="?")
    | arrays.boolean_dtypes()
    | arrays.complex_number_dtypes()
    | arrays.datetime64_dtypes()
    | arrays.unicode_string_dtypes()
    | st.just(np.dtype(object))
)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4) | st.just((SIZE, 2))
ORDERS = [
    np.asarray,
    np.asfortranarray,
    lambda array: array[::-1],
    lambda array: np.repeat(array, 2, axis=0)[::2],
    lambda array: np.ma.masked_array(array, np.zeros(array.shape, bool)),
]


@st.composite
def any_array(draw, dtypes=DTYPES, shapes=SHAPES):
    dtype, shape = draw(dtypes), draw(shapes)
    array = np.zeros(shape, dtype) if dtype.kind == "O" else draw(arrays.arrays(dtype, shape))
    return draw(st.sampled_from(ORDERS))(array) if array.ndim else array


def equal(left, right):
    return np.array_equal(left, right, equal_nan=left.dtype.kind == "f")


@given(any_array(), st.just(np.arange(SIZE)) | any_array(), st.booleans())
@example(np.float32(1), np.arange(3), False)
@example(np.zeros((3, 2), complex), np.arange(3), False)
@example(np.arange(6, dtype=">i4").reshape(3, 2), np.arange(3, dtype=">i8"), True)
@example(np.ma.masked_array(np.zeros((3, 2)), np.eye(3, 2)), np.arange(3), False)
@example(np.zeros((3, 2)), np.int64(3), False)
@example(np.full((3, 2), 2**63, np.uint64), np.array([0, 1, 2**63], np.uint64), False)
def test_examples_are_kept_as_they_are_or_refused(tmp_path_factory, inputs, labels, named):
    path = tmp_path_factory.mktemp("examples") / "e.safetensors"
    given_ = Examples({"inputs": inputs, "labels": labels}, ids=["a", "b", "c"]) if named else (inputs, labels)
    try:
        with np.errstate(over="ignore"):
            examples = as_examples(given_)
        check_examples(examples, SIZE, CLASSES, "data.train_size")
        write_examples(path, examples, {})
    except DataError as error:
        text = str(error)
        assert any(name in text for name in ("inputs", "abel", "mask", "'", "Examples")), text
        return
    found = read_arrays(ArrayFile(path))
    assert all(torch.from_numpy(array) is not None for array in found.values())
    wanted = np.asarray(inputs)
    assert equal(found["inputs"], wanted.astype(np.float32) if wanted.dtype.kind == "f" else wanted)
    assert np.array_equal(found["labels"], np.asarray(labels))
    assert np.isfinite(found["inputs"]).all()
    assert found["labels"].min() >= 0
    assert found["labels"].max() < CLASSES
    assert read_ids(ArrayFile(path)) == (["a", "b", "c"] if named else ["0", "1", "2"])


def test_labels_and_texts_that_are_none_are_refused():
    with pytest.raises(DataError, match="labels have different shapes"):
        as_examples((np.zeros((3, 2)), [[1], [1, 2], [3]]))
    with pytest.raises(DataError, match="no arrays"):
        as_examples(Examples({}))
    surrogate = Examples({"inputs": np.zeros((1, 2), np.float32)}, texts=["\ud800"])
    with pytest.raises(DataError, match="valid Unicode"):
        write_examples("nowhere.safetensors", as_examples(surrogate), {})


@given(any_array(), any_array(shapes=arrays.array_shapes(min_dims=1, max_dims=2, max_side=5)))
def test_arrays_read_back_as_they_were_written(tmp_path_factory, array, other):
    path = tmp_path_factory.mktemp("arrays") / "a.safetensors"
    try:
        write_arrays(path, {"one": array, "two": other}, {"stage": "s"})
        file = ArrayFile(path)
    except TrakflowError as error:
        assert str(path) in str(error)
        return
    assert file.provenance == {"stage": "s"}
    for name, wanted in (("one", array), ("two", other)):
        assert equal(file.read(name), np.asarray(wanted))


@given(any_array())
@example(np.zeros(3, "S4"))
@example(np.zeros(2, [("a", "<f4")]))
def test_a_users_array_is_read_as_numpy_wrote_it_or_refused(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    np.save(path, np.asarray(array), allow_pickle=True)
    try:
        found = read_array(str(path), "evaluation.masks")
    except DataError as error:
        assert "evaluation.masks" in str(error)
        assert np.asarray(array).dtype.kind not in "biuf"
        return
    assert equal(found, np.asarray(array))


def npy(header, data=b""):
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


LIES = {
    "an unclosed header": npy("{'descr':'<f4','shape':(5,)"),
    "an unclosed string": npy("'''"),
    "brackets": npy("(" * 110),
    "more rows than the file": npy("{'descr':'<f4','fortran_order':False,'shape':(9999999999999,)}", b"1234"),
    "a negative size": npy("{'descr':'<f4','fortran_order':False,'shape':(-3,)}", b"1234"),
    "a size that overflows": npy("{'descr':'<f4','fortran_order':False,'shape':(4294967296,4294967296,4)}", b"1234"),
    "strings of no length": npy("{'descr':'|S0','fortran_order':False,'shape':(9999999999,)}"),
    "nothing": b"",
}


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies_is_refused(name, tmp_path):
    (tmp_path / "a.npy").write_bytes(LIES[name])
    with pytest.raises(DataError, match="fitting"):
        read_array(str(tmp_path / "a.npy"), "fitting")
    with pytest.raises(StoreError, match=r"a\.npy"):
        map_numpy(tmp_path / "a.npy")


def test_an_archive_of_arrays_is_no_array(tmp_path):
    np.savez(tmp_path / "a.npz", masks=np.eye(3))
    with pytest.raises(DataError, match="archive"):
        read_array(str(tmp_path / "a.npz"), "masks")


def test_a_mapped_array_can_be_changed_without_changing_the_file(tmp_path):
    write_numpy(tmp_path / "a.npy", np.zeros(3, np.float32))
    mapped = map_numpy(tmp_path / "a.npy", "c")
    mapped[1] = 5
    assert map_numpy(tmp_path / "a.npy").tolist() == [0, 0, 0]


@given(any_array(), any_array(shapes=arrays.array_shapes(min_dims=1, max_dims=4, max_side=4)))
@example(np.eye(4, 3, dtype=">f4"), np.ones((2, 4, 2), ">f8"))
@example(np.eye(4, 3), np.ones((2, 4, 2), complex))
@example(np.eye(4, 3), np.full((2, 4, 2), 1e300))
@example(np.eye(4, 3), np.full((2, 4, 2), "a"))
@example(np.full((4, 3), "a"), np.ones((2, 4, 2)))
@pytest.mark.filterwarnings("error")
def test_masks_and_outputs_fit_or_are_refused(masks, outputs):
    try:
        check_evaluation(masks, outputs, 3, 2)
    except DataError:
        return
    assert masks.shape[1:] == (3,)
    assert outputs.shape[1:] == (len(masks), 2)
    assert set(np.unique(masks)) <= {0, 1}
    assert outputs.dtype.kind in "fiu"
    assert np.isfinite(outputs.astype(np.float32)).all()
