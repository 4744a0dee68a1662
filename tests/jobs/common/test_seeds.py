"""One derivation of seeds: keyed, in range, and the same for ever."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from jobs.common.seeds import derive_seed


@given(st.integers(0, 2**63 - 1), st.binary(max_size=40))
def test_a_seed_is_a_keyed_hash_below_2_to_63(seed, key):
    derived = derive_seed(seed, key)

    digest = hashlib.blake2b(key, digest_size=8, key=seed.to_bytes(8, "little")).digest()
    assert derived == int.from_bytes(digest, "little") >> 1
    assert 0 <= derived < 2**63


def test_a_seed_that_is_derived_never_changes():
    """Outputs of jobs hang on it: another value belongs with a new SCHEMA_VERSION."""
    assert derive_seed(7, b"row") == 6855925651888476863
