"""What this project offers to PSI/J."""

from packaging.version import Version

from psij.descriptor import Descriptor

__PSI_J_EXECUTORS__ = [
    Descriptor("fake", Version("1.2"), "fake_batch.executor.FakeExecutor", ["pretend"], "Fake Batch"),
    Descriptor("fake-old", Version("0.1"), "fake_batch.executor.OldFakeExecutor"),
]
__PSI_J_LAUNCHERS__ = [Descriptor("fake", Version("1.0"), "fake_batch.launcher.FakeLauncher")]
