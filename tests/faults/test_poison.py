"""Tasks that kill what runs them: each ends as a dead letter after a stated number of starts, and harms nobody else."""

from tests.faults.rig import System
from tests.support.waiting import wait_until

# What a process dies of is tried again, as it may be the process's fault; what the task itself raises is not.
STARTS = {
    "faults.exit": 3,
    "faults.segmentation_fault": 3,
    "faults.killed": 3,
    "faults.allocate": 1,
    "faults.memory_error": 1,
    "faults.recurse": 1,
    "faults.deaf": 1,
}
HUGE = "faults.huge_result"
NEIGHBOURS = 300


def poisoned(system: System) -> dict[str, object]:
    """Send every poison among ordinary tasks, and count starts, neighbours and the worker's lives."""
    lives = 1
    worker = system.worker("one", concurrency=2)
    poisons = [*STARTS, HUGE]
    neighbours_of_each = ("faults.effect", [], NEIGHBOURS // len(poisons))
    ids = system.send_all([order for name in poisons for order in (neighbours_of_each, (name, [], None))])
    names = dict(zip(ids, poisons, strict=True))
    system.sql("CREATE TABLE poison AS SELECT * FROM sent WHERE false")
    system.sql("INSERT INTO poison (task_id) VALUES " + ", ".join(f"('{task}')" for task in names))
    neighbours = "SELECT count(*) FROM sent LEFT JOIN effect USING (task_id) LEFT JOIN poison USING (task_id) "
    neighbours += "WHERE effect.task_id IS NULL AND poison.task_id IS NULL"

    def over() -> bool:
        nonlocal worker, lives
        if not worker.alive():
            # As its service would.
            worker = system.worker("one", concurrency=2)
            lives += 1
        if system.mode == "stock":
            return not system.value(neighbours) or lives > 5
        states = system.states()
        return not system.value(neighbours) and not states.get("queued") and not states.get("running")

    try:
        wait_until(over, "everything is over", seconds=120)
        stuck = False
    except AssertionError:
        stuck = True
    # What a stock worker has not given back in the visibility timeout it never gives back.
    if system.mode == "stock":
        system.drained(seconds=30, quiet=25)
    starts = dict(system.sql("SELECT task_id, count(*) FROM run JOIN poison USING (task_id) GROUP BY task_id"))
    return {
        "starts": {name: starts.get(task, 0) for task, name in names.items()},
        "neighbours": system.value(neighbours),
        "lives": lives,
        "stuck": stuck,
        "ids": {name: task for task, name in names.items()},
    }


def test_poison_ends_as_a_dead_letter_its_neighbours_are_unharmed_and_the_worker_lives(system, fault_row):
    fault_row.says(
        "poison: os._exit, SIGSEGV, SIGKILL of the process, endless allocation, MemoryError, endless recursion, "
        "a deaf ear for the soft limit, 100 MB result",
        "3 starts where the process dies, else 1, then a dead letter; neighbours unharmed, the worker alive",
    )

    def told(came: dict) -> str:
        starts = ", ".join(f"{name.removeprefix('faults.')} {count}" for name, count in came["starts"].items())
        return f"starts: {starts}; {came['neighbours']} neighbours lost; {came['lives']} lives of the worker"

    def stock() -> str:
        with system("stock", visibility=15) as harmed:
            return told(poisoned(harmed))

    fault_row.stock(stock)
    with system("drumline") as harmed:
        came = poisoned(harmed)
        rows = dict(harmed.sql("SELECT id::text, state FROM drumline_ledger"))
        states = {name: rows[task] for name, task in came["ids"].items()}
        fault_row.got(told(came))
        assert (came["neighbours"], came["lives"], came["stuck"]) == (0, 1, False), harmed.logs()
        assert {name: came["starts"][name] for name in STARTS} == STARTS
        # 3 is the dead letter, and 100 MB are stored like any other result.
        assert {name: states[name] for name in STARTS} == dict.fromkeys(STARTS, 3)
        assert states[HUGE] in (2, 3)
        assert came["starts"][HUGE] == 1
