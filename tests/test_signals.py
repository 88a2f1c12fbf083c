"""Who ends at a signal, and who goes on; each case in a forked process of its own."""

import os
import signal
import subprocess
import sys
import time
from itertools import islice

import pytest
from torch.multiprocessing import start_processes
from torch.utils.data import DataLoader

from glipv2_d2.data.samplers import MixingSampler, SampleStream
from glipv2_d2.signals import Stopped, StopSignals, passed_to_processes


def end_of(function, *arguments, tell=()):
    """The exit status of `function` in a fork, negative for a signal; signals are sent meanwhile.

    `tell`: pairs of a file that is waited for, and the signal that is sent then.
    """
    pid = os.fork()
    if not pid:
        try:
            function(*arguments)
        except SystemExit as ended:
            os._exit(ended.code or 0)
        except BaseException as error:  # must not get into pytest
            print(repr(error), file=sys.stderr)
        os._exit(99)
    for path, number in tell:
        deadline = time.time() + 30
        while not path.exists() and time.time() < deadline:
            time.sleep(0.01)
        os.kill(pid, number)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def job(folder, obedient):
    with passed_to_processes():
        start_processes(rank, (folder, obedient), nprocs=2, start_method="fork")


def rank(index, folder, obedient):
    with StopSignals(patient=True) as stop:
        (folder / f"pid{index}").write_text(str(os.getpid()))
        time.sleep(0.2)  # until the job knows of this process
        (folder / f"ready{index}").touch()
        while stop.number is None or not obedient:
            time.sleep(0.01)
            if stop.number is not None:
                (folder / f"told{index}").touch()
        os.kill(os.getpid(), stop.number)  # the terminal had sent it as well
        (folder / f"saved{index}").touch()
        sys.exit(128 + stop.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_passes_the_signal_on_and_waits(tmp_path, number):
    assert end_of(job, tmp_path, True, tell=[(tmp_path / "ready1", number)]) == 128 + number
    assert (tmp_path / "saved0").exists() and (tmp_path / "saved1").exists()


def test_a_second_signal_ends_a_job_at_once(tmp_path):
    tell = [(tmp_path / "ready1", signal.SIGTERM), (tmp_path / "told1", signal.SIGTERM)]
    assert end_of(job, tmp_path, False, tell=tell) == -signal.SIGTERM
    for index in (0, 1):
        with pytest.raises(ProcessLookupError):
            for _ in range(300):
                os.kill(int((tmp_path / f"pid{index}").read_text()), 0)
                time.sleep(0.01)


def test_the_first_signal_is_noted_and_the_second_ends(capfd):
    def twice():
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.number == signal.SIGINT
            os.kill(os.getpid(), signal.SIGINT)

    assert end_of(twice) == -signal.SIGINT
    assert "SIGINT: stops when it can. Once more ends it now." in capfd.readouterr().err


def test_work_that_may_be_done_anew_ends_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        with pytest.raises(Stopped, match="SIGTERM"), stop.raised():
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped), stop.raised():  # nor is it begun
            pytest.fail("begun")
    assert signal.getsignal(signal.SIGTERM) is before


def test_data_workers_live_on_while_the_whole_job_is_told():
    stream = SampleStream([list(range(8))], MixingSampler([8], [1], seed=1), 2)
    expected = list(islice(DataLoader(stream, batch_size=2, collate_fn=list), 6))
    batches = iter(DataLoader(stream, batch_size=2, num_workers=1, collate_fn=list))
    found = [next(batches)]
    (worker,) = batches._workers
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
    found += islice(batches, 5)
    assert found == expected and worker.is_alive()
    worker.terminate()  # of the main process
    worker.join(10)
    assert not worker.is_alive()
