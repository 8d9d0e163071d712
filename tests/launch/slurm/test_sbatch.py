"""What is handed to Slurm's commands, where the machine is unusual."""

from launch.slurm import sbatch


def test_a_user_without_a_name_is_a_number(monkeypatch):
    """A container without a line in the password file, and no USER: squeue and sacctmgr take numbers as well."""
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 987654)
    assert sbatch._user() == "987654"
