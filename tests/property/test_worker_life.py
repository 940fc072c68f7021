from hypothesis import settings

from tests.support.worker_life import WorkerLife

TestWorkerLife = WorkerLife.TestCase
TestWorkerLife.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
