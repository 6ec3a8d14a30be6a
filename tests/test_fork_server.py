"""What a forked child does with its parent's processes; each kind of them has tests of its own elsewhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from mentor_gym.fork_server import ProcessOwner
from mentor_gym.math_answers import _Server
from mentor_gym.tools.monty import Interpreter
from mentor_gym.tools.zygote import Zygote


@pytest.mark.parametrize("make", [_Server, Interpreter, Zygote])
def test_a_child_that_is_forked_while_one_is_in_use_need_not_wait_for_it(make: Callable[[], ProcessOwner]) -> None:
    owner = make()
    # As another thread of the parent would hold it, which the child does not have.
    with owner._lock:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(10)
                owner.close()
                status = 0
            finally:
                os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    owner.close()
