"""The number of cores that a process may use: what limits it, and where a quota is written."""

import pytest

from tinygrad_gru.native.cores import least, quota


@pytest.mark.parametrize(
    ("total", "usable", "quota", "environment", "expected"),
    [
        (8, 8, None, {}, (8, "this machine has 8 cores")),
        (1, 1, None, {}, (1, "this machine has 1 core")),
        (8, 2, None, {}, (2, "this machine has 8 cores, of which this process may use 2")),
        (8, 8, 2.9, {}, (2, "the CPU quota of its cgroup is 2.9 cores")),
        (8, 8, 0.5, {}, (1, "the CPU quota of its cgroup is 0.5 cores")),
        (8, 2, 4.0, {}, (2, "this machine has 8 cores, of which this process may use 2")),
        (8, 8, None, {"OMP_NUM_THREADS": "1"}, (1, "OMP_NUM_THREADS=1")),
        (8, 8, None, {"OMP_NUM_THREADS": "4,2"}, (4, "OMP_NUM_THREADS=4")),
        (2, 2, None, {"OMP_NUM_THREADS": "16"}, (2, "this machine has 2 cores")),
        (2, 2, None, {"OMP_NUM_THREADS": "2"}, (2, "OMP_NUM_THREADS=2")),
        (2, 2, None, {"OMP_NUM_THREADS": "0"}, (2, "this machine has 2 cores")),
        (2, 2, None, {"OMP_NUM_THREADS": "many"}, (2, "this machine has 2 cores")),
        (8, 8, None, {"MPI_LOCALNRANKS": "3"}, (2, "MPI_LOCALNRANKS=3 on 8 cores")),
        (2, 2, None, {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, (1, "OMPI_COMM_WORLD_LOCAL_SIZE=4 on 2 cores")),
        (8, 4, None, {"MPI_LOCALNRANKS": "2"}, (4, "this machine has 8 cores, of which this process may use 4")),
    ],
)
def test_the_smallest_limit_counts(total, usable, quota, environment, expected):
    assert least(total, usable, quota, environment) == expected


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a\n", {"a/cpu.max": "400000 100000\n", "cpu.max": "50000 100000\n"}, 0.5),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("0::/a\n", {"a/cpu.max": "max 100000\n"}, None),
        ("0::/of/the/host\n", {"cpu.max": "300000 100000"}, 3.0),  # a container, whose own group is the root
        ("0::/../outside\n", {}, None),
        ("0::/a\n", {"a/cpu.max": "nonsense"}, None),
        (
            "3:memory:/m\n2:cpu,cpuacct:/job\n",
            {"cpu,cpuacct/job/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"},
            2.5,
        ),
        ("2:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        (None, {}, None),  # a system without cgroups
    ],
)
def test_the_quota_of_a_cgroup_of_either_version(groups, files, expected, tmp_path):
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert quota(str(tmp_path)) == expected
