import signal

import pytest
from hypothesis import settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("vcap", deadline=None)
settings.load_profile("vcap")

# Whom a shell starts in the background ignores SIGINT, and so would all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Scenarios are a part of the simulator, and assert as tests do: a failure shows the values.
pytest.register_assert_rewrite("vcap_es.sim.scenarios")
