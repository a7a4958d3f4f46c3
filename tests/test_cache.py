# SPDX-License-Identifier: Apache-2.0
"""What is kept is there whole or not at all, and is made once."""

import os

import pytest

from pluri.ssl.cache import digest, once, state


def write_file(place):
    place.write_text("made")


def write_folder(place):
    place.mkdir()
    (place / "a").write_text("made")


def refuse(place):
    raise AssertionError("made again")


@pytest.mark.parametrize("make", [write_file, write_folder])
def test_a_file_or_folder_is_made_once_and_whole(make, tmp_path):
    place = tmp_path / "deep" / "place.json"

    def stop(beside):
        make(beside)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        once(place, stop)
    assert not place.exists()
    assert once(place, make) == place and once(place, refuse) == place
    assert [path.name for path in place.parent.iterdir()] == ["place.json"]


@pytest.mark.parametrize("make", [write_file, write_folder])
def test_of_two_that_make_it_at_once_neither_fails(make, tmp_path):
    def second(beside):
        make(tmp_path / "place")
        make(beside)

    assert once(tmp_path / "place", second).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_names_sizes_and_times_make_a_digest(tmp_path):
    path = tmp_path / "a"
    path.write_text("abc")
    before = digest(1, state([path]))
    assert len(before) == 16 and digest(1, state([path])) == before
    os.utime(path, ns=(1, 1))
    assert state([path]) == [(str(path), 3, 1)] and digest(1, state([path])) != before
