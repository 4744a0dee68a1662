"""Tests of `dream.engine.memory`: what the kernel and its control groups say is free."""

from __future__ import annotations

from pathlib import Path

from dream.engine.memory import host_memory


def files(root: Path, contents: dict[str, str]) -> Path:
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n"}


def test_a_host_without_groups_has_what_the_kernel_says(tmp_path):
    assert host_memory(files(tmp_path, MEMINFO)) == 8000 * 1024


def test_a_system_without_these_files_tells_nothing(tmp_path):
    assert host_memory(tmp_path) is None


def test_the_limit_of_a_group_around_a_process_counts(tmp_path):
    groups = {
        "proc/self/cgroup": "0::/pod/container\n",
        "sys/fs/cgroup/pod/memory.max": "1000000\n",
        "sys/fs/cgroup/pod/memory.current": "400000\n",
        "sys/fs/cgroup/pod/memory.stat": "anon 300000\ninactive_file 50000\n",
        "sys/fs/cgroup/pod/container/memory.max": "max\n",
        "sys/fs/cgroup/pod/container/memory.current": "400000\n",
    }

    assert host_memory(files(tmp_path, MEMINFO | groups)) == 650_000


def test_the_first_version_of_groups_is_read_too(tmp_path):
    groups = {
        "proc/self/cgroup": "5:cpu:/\n4:memory:/not/mounted/here\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500000\n",
        "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 100000\n",
    }

    assert host_memory(files(tmp_path, MEMINFO | groups)) == 600_000


def test_a_group_that_is_over_its_limit_has_nothing_left(tmp_path):
    groups = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": "1000\n",
        "sys/fs/cgroup/memory.current": "2000\n",
    }

    assert host_memory(files(tmp_path, MEMINFO | groups)) == 0
