"""Failure handling taken away, piece by piece, and the fault test that must then fail.

`test_seeded.py` puts each into a copy of the program. Add a line here with every new piece of handling, and
not to the docstring of its test: there nobody would notice when it is true no longer.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Seed(NamedTuple):
    """One change of the program."""

    name: str
    file: str
    handling: str
    """As it stands there, once."""
    instead: str
    test: str
    """Below tests/fault."""


_SILENT: Final = "Rule(again=True,  costs=True,  breaks=True,  blame=_SUSPICION, status=_LATE)"
_MUTE: Final = "test_mute_worker.py::test_what_it_was_sent_is_answered_by_another"
_IDLE: Final = "test_stopped_worker.py::test_an_idle_one_is_found_without_any_request[embedded]"
_GARBAGE: Final = "test_garbage.py::test_it_is_nothing_for_a_client"
_DRAINS: Final = (
    "test_drain.py::test_a_draining_worker_gets_no_request_and_its_model_goes_elsewhere[embedded]"
)

SEEDS: Final = (
    Seed(
        "a request whose worker is silent is not made again",
        "gateway/relay/outcome.py",
        _SILENT,
        _SILENT.replace("again=True", "again=False"),
        _MUTE,
    ),
    Seed(
        "silence is no reason for suspicion",
        "gateway/relay/outcome.py",
        _SILENT,
        _SILENT.replace("_SUSPICION", "_NONE"),
        _MUTE,
    ),
    Seed(
        "there is no time to the first byte",
        "gateway/relay/upstream.py",
        "until = min(message.deadline, started + message.first_byte_s)",
        "until = message.deadline",
        _MUTE,
    ),
    Seed(
        "an open circuit is never asked again",
        "gateway/health/breaker.py",
        "if breaker.due is None or breaker.due > now:",
        "if True:",
        "test_mute_worker.py::test_it_is_let_in_again_once_it_gives_a_token",
    ),
    Seed(
        "a gateway that hangs is left alone",
        "supervisor/app.py",
        "hung=partial(runtime.replace_hung, GATEWAY),",
        "hung=lambda _: None,",
        "test_hung_gateway.py::test_hanging_gateway_is_replaced",
    ),
    Seed(
        "an open circuit keeps nobody away",
        "gateway/fleet/views.py",
        "ready=roster.is_ready(status) and instance_of(status) not in roster.tripped,",
        "ready=roster.is_ready(status),",
        _MUTE,
    ),
    Seed(
        "a closed pooled connection is a failure",
        "gateway/relay/upstream.py",
        "if opened.count or waited_s > _STALE_WITHIN_S or not message.again_if_stale:",
        "if True:",
        "test_stale_connection.py",
    ),
    Seed(
        "a web page is an answer",
        "gateway/relay/answers.py",
        'if content_type.startswith(("text/html", "application/xhtml")):',
        "if False:",
        f"{_GARBAGE}[False-page]",
    ),
    Seed(
        "a dead runner's 500 is an answer",
        "gateway/relay/answers.py",
        "return any(text in said for text in _BROKEN_WORKER)",
        "return False",
        f"{_GARBAGE}[True-broken]",
    ),
    Seed(
        "a piece of JSON is an answer",
        "gateway/relay/answers.py",
        'return "its JSON has no end"',
        "return None",
        "test_garbage.py::test_a_body_that_is_not_whole_is_asked_for_again[piece]",
    ),
    Seed(
        "an answer in one piece is passed on as it comes",
        "gateway/http/inference.py",
        "(echo is not None or _is_small(reply))",
        "echo is not None",
        "test_garbage.py::test_a_body_that_is_not_whole_is_asked_for_again[too long]",
    ),
    Seed(
        "a stream that stalls has come to its end",
        "gateway/relay/upstream.py",
        "raise StreamFailedError(self._outcome(error)) from error",
        "return",
        "test_stalling_stream.py::test_the_client_is_told_and_the_worker_left_out",
    ),
    Seed(
        "silence is no verdict",
        "gateway/health/breaker.py",
        "if silences >= SILENCES else ()",
        "if False else ()",
        _IDLE,
    ),
    Seed(
        "the supervisor does nothing about a worker that hangs",
        "supervisor/runtime.py",
        "if any(status.incarnation == report.incarnation for status in found):",
        "if False:",
        _IDLE,
    ),
    Seed(
        "a green server is proof enough",
        "gateway/health/rounds.py",
        "return Question.TOKEN",
        "return Question.VERSION",
        "test_stopped_worker.py::test_a_runner_that_hangs_behind_a_green_server_is_found[embedded]",
    ),
    Seed(
        "without a gateway nobody asks",
        "supervisor/child.py",
        "if not self.parent.has_gateways() and isinstance(probe.address, Loopback):",
        "if False:",
        "test_without_gateway.py::test_a_worker_that_does_not_answer_is_replaced",
    ),
    Seed(
        "crash loops are not given up",
        "supervisor/core/backoff.py",
        "if on_probation or crashes >= self.quarantine_crashes:",
        "if False:",
        "test_exiting_worker.py::test_each_start_waits_longer_and_the_fifth_is_the_last_for_long",
    ),
    Seed(
        "a drain waits for nobody",
        "supervisor/runtime.py",
        "return process is not None and is_idle(self._gateways, process, since_generation=since)",
        "return process is not None",
        _DRAINS,
    ),
    Seed(
        "a worker is called idle while it answers",
        "gateway/fleet/reporting.py",
        "if drains and not self.runtime.scheduler.leases_on(instance_of(status)):",
        "if drains:",
        _DRAINS,
    ),
    Seed(
        "a draining worker gets requests",
        "gateway/fleet/roster.py",
        "return status.state is WorkerState.READY and",
        "return status.state in (WorkerState.READY, WorkerState.DRAINING) and",
        _DRAINS,
    ),
    Seed(
        "a gateway reads the file that is being edited",
        "gateway/commands/settings.py",
        "source = file if accepted is None else accepted",
        "source = file",
        "test_reload.py::test_a_broken_file_changes_nothing_and_is_told[embedded]",
    ),
    Seed(
        "a worker that does not change is started anew",
        "supervisor/core/reload.py",
        "return WorkerPlan(after.name, Fate.UNCHANGED)",
        "return WorkerPlan(after.name, Fate.CHANGED)",
        "test_reload.py::test_only_the_changed_worker_drains_and_the_other_keeps_its_models[embedded]",
    ),
    Seed(
        "an empty file is a wish for all defaults",
        "supervisor/reloading.py",
        "if not found.text.strip() and self.now.config != Config():",
        "if False:",
        "test_reload.py::test_an_empty_file_changes_nothing[embedded]",
    ),
    Seed(
        "a worker that does not come up is no reason to stop",
        "supervisor/reloading.py",
        "if failed:",
        "if False:",
        "test_reload.py::test_a_worker_that_does_not_come_up_ends_the_reload_before_others_are_touched",
    ),
    Seed(
        "a new gateway counts nothing of what the old one's answers hold",
        "gateway/handover/inheritance.py",
        "            self._runtime.feed(Adopted(way.request, instance, way.granted_at))",
        "            pass",
        "test_handover.py::test_slots_that_the_old_gateways_answers_hold_are_given_to_nobody",
    ),
    Seed(
        "who waits in the old gateway is not passed on",
        "gateway/runtime.py",
        "                    future.set_exception(HandedOverError())",
        "                    pass",
        "test_handover.py::test_who_waits_in_the_old_gateway_is_answered_by_the_new_one_in_turn",
    ),
    Seed(
        "loads are begun during a handover",
        "gateway/runtime.py",
        "            return self._hold >= Hold.MOVES",
        "            return False",
        "test_handover.py::test_no_load_begins_between_the_word_and_the_next_gateways",
    ),
    Seed(
        "a load under way is not waited for",
        "gateway/handover/succession.py",
        "self.runtime.wait_until_still()",
        "asyncio.sleep(0)",
        "test_handover.py::test_a_load_under_way_is_waited_for_and_not_made_twice",
    ),
    Seed(
        "nobody is let in again after a handover that failed",
        "gateway/handover/succession.py",
        "await self.handing_over.go_on()",
        "pass",
        "test_handover.py::test_a_new_gateway_that_goes_away_before_it_serves_changes_nothing",
    ),
    Seed(
        "a gateway that is to replace another is started for ever",
        "supervisor/runtime.py",
        "if child.once and child.machine.wanted:",
        "if False:",
        "test_gateway_replacement.py::test_a_new_one_that_ends_while_it_starts_leaves_the_old_one",
    ),
    Seed(
        "answers that take too long are cut without a word",
        "gateway/ending.py",
        "            turn.break_off(why)",
        "            pass",
        "test_gateway_upgrade.py::test_answers_beyond_stop_timeout_are_broken_off_and_told",
    ),
    Seed(
        "a handler never learns that its client left",
        "gateway/http/server.py",
        "super().__init__(app, handler_cancellation=True,",
        "super().__init__(app, handler_cancellation=False,",
        "test_clients_leave.py::test_client_that_leaves_the_queue_leaves_no_trace[embedded-/api/chat]",
    ),
    Seed(
        "requests go by the wall clock",
        "gateway/app.py",
        "fleet, asyncio.get_running_loop().time)",
        "fleet, __import__('time').time)",
        "test_clock_jump.py::test_a_clock_that_is_set_disturbs_nobody[embedded]",
    ),
    Seed(
        "what was learned goes by the wall clock",
        "gateway/learning/file.py",
        "if now.id and now.id == self.boot.id:",
        "if False:",
        "test_clock_jump.py::test_what_was_learned_survives_a_clock_that_is_a_year_off[embedded]",
    ),
    Seed(
        "a load that a worker refuses is made for ever",
        "gateway/runtime.py",
        "lasting = isinstance(error, WorkerRefusedError)",
        "lasting = False",
        "test_corrupt_store.py::test_a_model_file_that_ends_half_way_fails_alone[embedded]",
    ),
    Seed(
        "a load that always dies is made for ever",
        "gateway/runtime.py",
        "lasting = isinstance(error, WorkerRefusedError)",
        "lasting = False",
        "test_dies_while_loading.py::test_a_load_that_always_dies_is_told_and_hurts_nobody_else[embedded]",
    ),
    Seed(
        "clients are accepted without counting",
        "gateway/http/entrances.py",
        "if descriptors is None",
        "if True",
        "test_descriptors.py",
    ),
    Seed(
        "an answer goes on without what was said",
        "gateway/http/failing_over.py",
        "await self._prompt(asking, status) + broken.sent.text",
        "await self._prompt(asking, status)",
        "test_failover.py::test_a_runner_that_dies_is_gone_on_for[embedded]",
    ),
    Seed(
        "an answer that goes on may be as long again",
        "gateway/surfaces/continuing.py",
        'dict(self.options) if limit is None else {**self.options, "num_predict": limit}',
        "dict(self.options)",
        "test_failover.py::test_a_runner_that_dies_is_gone_on_for[embedded]",
    ),
    Seed(
        "a worker's error frame is passed on where another could go on",
        "gateway/http/outgoing.py",
        "if self.heard is None:",
        "if True:",
        "test_failover.py::test_a_runner_that_dies_is_gone_on_for[embedded]",
    ),
    Seed(
        "a request whose worker breaks off is not made again",
        "gateway/relay/outcome.py",
        "Kind.BROKE_OFF:        Rule(again=True, ",
        "Kind.BROKE_OFF:        Rule(again=False,",
        "test_killed_at_any_moment.py::test_a_worker_killed_before_the_first_byte_costs_no_request[embedded]",
    ),
    Seed(
        "a load that breaks off is the fault of its model",
        "gateway/runtime.py",
        "lasting = isinstance(error, WorkerRefusedError)",
        "lasting = True",
        "test_killed_at_any_moment.py::test_a_worker_killed_while_it_loads_costs_no_request[embedded]",
    ),
    Seed(
        "a log that cannot be written is an error",
        "supervisor/contract/shell/log_setup.py",
        "WriteLoggerFactory(stream.as_file())",
        "WriteLoggerFactory(sys.stderr)",
        "test_full_disk.py::test_serving_goes_on_without_log_and_learned_state[embedded]",
    ),
    Seed(
        "everybody waits for who reads the log",
        "supervisor/contract/shell/log_setup.py",
        "WriteLoggerFactory(stream.as_file())",
        "WriteLoggerFactory(sys.stderr)",
        "test_log_reader.py::test_a_reader_that_stopped_stops_nothing_and_is_told_what_he_missed[embedded]",
    ),
    Seed(
        "a lost card goes on",
        "supervisor/gpu_care.py",
        "            self.runtime.condemn(advice.worker, advice.reason, quarantine=True)",
        "            pass",
        "test_gpu_of_a_corral.py::test_a_card_that_falls_off_the_bus_costs_no_request",
    ),
    Seed(
        "a card that is well again rests for ever",
        "supervisor/gpu_care.py",
        "            self.runtime.pardon(advice.worker)",
        "            pass",
        "test_gpu_faults.py",
    ),
    Seed(
        "nobody asks what killed a worker",
        "supervisor/app.py",
        "runtime.cause_of_death, jobs.on_line = memory.cause_of_death, memory.hear",
        "jobs.on_line = memory.hear",
        "test_memory_faults.py::test_a_worker_that_the_kernel_killed_is_told_as_such_and_gets_less",
    ),
    Seed(
        "a worker that found no GPU serves on",
        "supervisor/memory_care.py",
        "if symptom is Symptom.NO_GPU and",
        "if False and",
        "test_memory_faults.py::test_a_gpu_worker_that_finds_no_gpu_is_started_again_and_then_given_up",
    ),
    Seed(
        "a pull ends with its worker",
        "gateway/stores/operations.py",
        "if not may_resume(request, breaks):",
        "if True:",
        "test_restart_during_pull.py::test_a_pull_goes_on_when_its_worker_is_killed[embedded]",
    ),
    Seed(
        "a runtime directory may have two supervisors",
        "supervisor/host/directory.py",
        "fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        "test_second_up.py::test_the_same_runtime_directory_is_refused[embedded]",
    ),
    Seed(
        "nobody waits for a slow reader",
        "gateway/relay/stream.py",
        "                await write(passed)",
        "                __import__('asyncio').ensure_future(write(passed))",
        "test_slow_readers.py::test_fifty_slow_readers_cost_a_bounded_memory_and_delay_nobody",
    ),
    Seed(
        "who takes nothing is never cut",
        "gateway/http/server.py",
        '{"TCP_USER_TIMEOUT": STALLED_S * 1000, **_KEEPALIVE}',
        "_KEEPALIVE",
        "test_slow_readers.py::test_who_takes_nothing_for_long_is_cut_and_the_next_gets_the_slot",
    ),
    Seed(
        "an old gateway is killed before its answers have ended",
        "supervisor/runtime.py",
        "            self.feed(old, StopRequested())",
        "            old.process.kill()",
        "test_gateway_upgrade.py::test_three_upgrades_in_a_row_under_load_refuse_and_break_nothing[embedded]",
    ),
    Seed(
        "a load that is stuck is waited for",
        "gateway/fleet/fleet.py",
        "for instance in stuck_since(before, snapshot):",
        "for instance in ():",
        "test_dies_while_loading.py::test_a_load_that_waits_for_a_dead_process_is_given_up",
    ),
    Seed(
        "an exit of a runner that starts means nothing",
        "supervisor/memory_care.py",
        "return stuck.exited()",
        "return False",
        "test_dies_while_loading.py::test_a_load_whose_runner_exits_as_it_starts_is_given_up",
    ),
    Seed(
        "what a dead worker started is left",
        "supervisor/host/keeper.py",
        "    while found := set(_marked(marker)) - seen:",
        "    while found := set[int]():",
        "test_supervisor_death.py::test_nothing_survives_kill_9_of_the_supervisor",
    ),
    Seed(
        "a second SIGTERM is one",
        "supervisor/app.py",
        "        before, self.hurried = self.hurried, True\n",
        "        return\n",
        "test_second_sigterm.py::test_a_second_sigterm_ends_everything_now[embedded]",
    ),
)
