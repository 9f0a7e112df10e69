"""Timecode: counted by hand, and by listing every frame number that exists."""

from fractions import Fraction

import pytest

from stream.cryptomatte import header, id_bits, murmur3, ranked
from stream.timecode import fits, later

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("start", "frames", "rate", "end"),
    [
        ("01:00:00:00", 0, 25, "01:00:00:00"),
        ("01:02:03:24", 1, 25, "01:02:04:00"),
        ("23:59:59:24", 1, 25, "00:00:00:00"),
        ("00:00:59:29", 1, NTSC, "00:01:00:00"),  # no numbers are dropped without the ;
        ("00:00:59;29", 1, NTSC, "00:01:00;02"),
        ("00:09:59;29", 1, NTSC, "00:10:00;00"),  # a tenth minute drops nothing
        ("00:00:59;59", 1, NTSC * 2, "00:01:00;04"),
        ("00:00:00;00", 107892, NTSC, "01:00:00;00"),  # an hour of 29.97
        ("23:59:59;29", 1, NTSC, "00:00:00;00"),
        ("10:00:00:23", 24, Fraction(24000, 1001), "10:00:01:23"),
    ],
)
def test_counting_on(start, frames, rate, end):
    assert later(start, frames, Fraction(rate)) == end


def test_every_drop_frame_number_is_met_once_and_in_order():
    exist = [
        f"00:{minute:02}:{second:02};{frame:02}"
        for minute in range(21) for second in range(60) for frame in range(30)
        if not (minute % 10 and second == 0 and frame < 2)
    ]  # fmt: skip

    assert [later("00:00:00;00", i, NTSC) for i in range(len(exist))] == exist


def test_a_timecode_that_no_track_can_count_is_told_apart():
    assert fits("01:00:00;02", NTSC) and fits("01:00:00:02", NTSC) and fits("01:00:00:02", 25)
    assert not fits("01:00:00;02", Fraction(25))
    assert not fits("01:00:00:02", Fraction(17)) and not fits("01:00:00:02", None)


def test_what_is_no_timecode_is_refused():
    with pytest.raises(ValueError, match="no timecode"):
        later("noon", 1, NTSC)


# -------------------------------------------------------------- Cryptomatte, by its specification


@pytest.mark.parametrize(
    ("name", "bits"), [("torus", 4053562365), ("равнина", 2518896926), ("", 0)]
)
def test_names_hash_as_the_specification_says(name, bits):
    assert murmur3(name.encode("utf-8")) == bits


def test_an_id_is_never_a_float_that_programs_lose():
    ids = [id_bits(f"person_{n:04}") for n in range(20000)]

    assert all(bits >> 23 & 255 not in (0, 255) for bits in ids)
    assert id_bits("") == 1 << 23  # its hash, 0, would be "no one"


def test_the_key_in_the_header_is_that_of_the_layers():
    told = header(["a"], "crypto_object")
    key = f"{murmur3(b'crypto_object'):08x}"[:7]

    assert told[f"cryptomatte/{key}/name"] == "crypto_object"
    assert told[f"cryptomatte/{key}/conversion"] == "uint32_to_float32"


def test_more_people_than_ranks_are_counted_and_the_largest_kept():
    import numpy as np

    alphas = [np.full((2, 2), code, np.uint8) for code in (5, 60, 10, 50, 20, 40, 30)]

    channels, left_out = ranked([f"p{i}" for i in range(7)], alphas, (2, 2))

    shares = [channels[f"CryptoPerson{i // 2:02}.{'GA'[i % 2]}"][0, 0] * 255 for i in range(6)]
    np.testing.assert_allclose(shares, [60, 50, 40, 30, 20, 10])
    assert left_out == 4
