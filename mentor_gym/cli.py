"""The command line, `mentor-gym`.

Commands that need agents import them when they run, so that `mentor-gym list` starts without torch. An error of
the user's is one line on stderr and exit code 2; a check that fails (`check`, `data verify`, `data validate`)
exits with 1; Ctrl-C with 130. `MENTOR_GYM_DEBUG=1` shows the traceback of every error.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import gymnasium as gym
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mentor_gym import play as play_module
from mentor_gym.cli_data import data_app
from mentor_gym.cli_record import record_command
from mentor_gym.cli_rewards import rewards_app
from mentor_gym.console import (
    Interrupted,
    SuiteOption,
    TemperatureOption,
    complain,
    one_line,
    read_pairs,
    resumable,
)
from mentor_gym.env import PROMPT_STYLES, MentorToolEnv
from mentor_gym.names import nearest
from mentor_gym.render import render_opening, render_terms, render_turn
from mentor_gym.rewards import PRESETS, make_reward
from mentor_gym.suites import EXTRA_SUITES, SUITES, load_suite

if TYPE_CHECKING:
    from agents.base import Agent
    from agents.trajectory import Trajectory

# Modules that come with an extra: `pip install 'mentor-gym[train]'`.
EXTRA_MODULES = {
    "torch": "train",
    "transformers": "train",
    "tokenizers": "train",
    "safetensors": "train",
    "peft": "train",
    "stable_baselines3": "train",
    "tensorboard": "train",
    "matplotlib": "train",
    "tantivy": "search",
    "mcp": "mcp",
    "httpx2": "record",
    "pyarrow": "data",
}
MAX_TOOLS_SHOWN = 24
# What `mentor-gym train --agent` trains.
SB3_AGENTS = ("sb3-ppo", "sb3-maskable-ppo")

app = typer.Typer(
    help="Gymnasium environments, teacher-guided rewards and learners for small models that use tools.",
    rich_markup_mode="markdown",
    add_completion=False,
)
app.add_typer(data_app, name="data")
app.add_typer(rewards_app, name="rewards")
app.command("record")(record_command)

PromptOption = Annotated[
    str,
    typer.Option(
        "--prompt", help=f"{' or '.join(PROMPT_STYLES)}: full explains the format at length, for untrained models."
    ),
]
AgentSettings = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="An argument of the agent, as key=value; may be repeated."),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: Words after `mentor-gym`; None takes those of the process.

    >>> main(["rollout", "--suite", "maths"])  # one red line on stderr, for example: error: unknown suite 'maths'…
    2
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments or ["--help"], prog_name="mentor-gym", standalone_mode=False)
        if code == 130:
            raise Interrupted("stopped")
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (Interrupted, KeyboardInterrupt, typer.Abort) as error:
        complain(f"interrupted: {error}" if isinstance(error, Interrupted) else "interrupted")
        return error.exit_code if isinstance(error, Interrupted) else 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): Python must not complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        message = _explain(error)
        if message is None or os.environ.get("MENTOR_GYM_DEBUG"):
            raise
        complain(f"error: {message}")
        return 2


def _explain(error: Exception) -> str | None:
    """Return one line for an error that the user can mend; None for a bug of ours."""
    missing = _missing_extra(error)
    if missing:
        return f"this needs {missing}, which is not installed: pip install 'mentor-gym[{EXTRA_MODULES[missing]}]'"
    # typer brings click under a name that changed between its releases, so its errors are known by their method.
    if hasattr(error, "format_message"):
        path = getattr(getattr(error, "ctx", None), "command_path", "mentor-gym")
        return f"{one_line(error.format_message()).rstrip('.')} (see {path} --help)"
    if isinstance(error, ImportError) and "pip install" in str(error):
        return one_line(str(error))
    # Only here: most commands need neither the sandbox nor its modules.
    from mentor_gym.tools.code_full import SandboxUnavailable

    if isinstance(error, SandboxUnavailable):
        return one_line(str(error))
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    # FloatingPointError: a training run that diverged.
    if isinstance(error, (ValueError, OSError, FloatingPointError)):
        return one_line(str(error)) or type(error).__name__
    return None


def _missing_extra(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in EXTRA_MODULES:
            return (error.name or "").partition(".")[0]
        error = error.__cause__ or error.__context__
    return None


def _load_agent(name: str, options: Sequence[str] | None, given: dict[str, Any], wished: dict[str, Any]) -> Agent:
    """Load an agent with the options that the user gave, and defaults of ours that it may not know."""
    from agents.base import AgentError, load_agent

    explicit = {key: value for key, value in given.items() if value is not None}
    explicit |= read_pairs("--option", options)
    try:
        return load_agent(name, **{**wished, **explicit})
    except (AgentError, TypeError):
        pass  # an agent without a seed, for example; an error of another kind comes again below
    try:
        return load_agent(name, **explicit)
    except TypeError as error:
        raise ValueError(f"agent {name!r} refuses the options {', '.join(explicit)}: {error}") from error


def _configs() -> dict[str, Path]:
    """Return the shipped training configurations by name; the demo's settings are not one of them."""
    folder = Path(str(resources.files("agents"))) / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml")) if path.stem not in ("demo", "study")}


@app.command()
def check(
    target: Annotated[
        list[str] | None,
        typer.Argument(
            help="Environment ids, suites, rewards, agents, or module:attribute; all that is shipped by default."
        ),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="env, suite, tool, reward or agent, where the target does not tell.")
    ] = None,
) -> None:
    """Check that environments, suites, tools, rewards and agents keep their promises. Exits with 1 when one fails.

    Examples:
    - `mentor-gym check my_pkg:MyEnv-v0`

    - `mentor-gym check --kind tool my_module:my_tool`
    """
    from mentor_gym.testing import Report, conclude, examine, examine_shipped
    from mentor_gym.testing.table import format_report, format_reports

    examinations = [examine(name, kind) for name in target] if target else examine_shipped(kind)
    console = Console(highlight=False)
    reports: list[Report] = []
    for examination in examinations:
        with console.status(f"{examination.kind} {examination.target}"):
            reports.append(conclude(examination, raise_on_failure=False))
        if target or reports[-1].failed:
            console.print(format_report(reports[-1]))
    if len(reports) > 1:
        console.print(format_reports(reports))
    if not target and kind in (None, "env", "suite", "tool"):
        print(f"not checked, as they need more than the core: {', '.join(EXTRA_SUITES)}; name one to check it")
    if any(report.failed for report in reports):
        raise typer.Exit(1)


@app.command("list")
def list_command() -> None:
    """List environments, suites, rewards, agents and training configurations."""
    from agents.base import AGENTS, ENTRY_POINT_GROUP

    console = Console(highlight=False)
    ids = sorted(name for name in gym.registry if name.startswith("Mentor"))
    console.print(Text("environments: ", style="bold") + Text(", ".join(ids)))

    table = Table("suite", "split", "rows", "tools", title="suites", title_justify="left")
    missing = []
    for name in (*SUITES, *EXTRA_SUITES):
        suite = load_suite(name)
        try:
            suite.tasks(suite.splits[0])
        except ImportError as error:
            missing.append(f"{name}: {error}")
            continue
        for split in suite.splits:
            tasks = suite.tasks(split)
            offered = {
                tool if isinstance(tool, str) else tool["function"]["name"]
                for position in range(len(tasks))
                for tool in tasks[position].tools
            }
            names = [tool for tool in suite.box.tools if tool in offered]
            shown = " ".join(names) if len(names) <= MAX_TOOLS_SHOWN else f"{len(names)} tools"
            table.add_row(name, split, str(len(tasks)), shown)
        table.add_section()
    console.print(table)
    for line in missing:
        # Not as markup, which would take the name of an extra for a style.
        console.print(line, markup=False, soft_wrap=True)

    table = Table("reward", "maximum", "what it pays", title="rewards", title_justify="left")
    for name, preset in PRESETS.items():
        table.add_row(name, f"{make_reward(name).maximum:g}", preset.summary)
    console.print(table)

    agents = [*AGENTS, *(point.name for point in metadata.entry_points(group=ENTRY_POINT_GROUP))]
    console.print(Text("agents: ", style="bold") + Text(", ".join(agents)))
    console.print(Text("training configurations: ", style="bold") + Text(", ".join(_configs())))


@app.command()
def rollout(
    agent: Annotated[
        str, typer.Option(help="A name from `mentor-gym list`, module:attribute, a model folder or id.")
    ] = "teacher",
    suite: SuiteOption = "math",
    split: Annotated[str | None, typer.Option(help="Split of the suite; its first one by default.")] = None,
    episodes: Annotated[int, typer.Option("--episodes", "-n", min=1, help="How many tasks to play.")] = 1,
    task: Annotated[list[str] | None, typer.Option(help="Play this task; may be repeated.")] = None,
    reward: Annotated[str, typer.Option(help="A reward's name.")] = "mentor",
    dense: Annotated[bool, typer.Option("--dense", help="Pay every turn instead of at the end.")] = False,
    render: Annotated[bool, typer.Option("--render", help="Show the conversations.")] = False,
    seed: Annotated[int, typer.Option(help="Chooses the tasks and seeds the agent.")] = 0,
    max_turns: Annotated[int, typer.Option(help="Turns after which an episode is cut off.")] = 8,
    prompt: PromptOption = "compact",
    temperature: TemperatureOption = None,
    option: AgentSettings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Play episodes with an agent and show what they earn.

    Examples:
    - `mentor-gym rollout --agent teacher --suite math --split test -n 3 --render`

    - `mentor-gym rollout --agent my_module:agent --reward sparse --json`
    """
    from agents.rollout import Rollout

    maximum = make_reward(reward).maximum
    chosen = load_suite(suite)
    split = split or chosen.splits[0]
    player = _load_agent(agent, option, {"temperature": temperature}, {"seed": seed})
    settings = {
        "suite": suite,
        "split": split,
        "reward": reward,
        "dense": dense,
        "max_turns": max_turns,
        "prompt": prompt,
    }
    tasks = chosen.tasks(split)
    ids = task or random.Random(seed).sample(tasks.ids, min(episodes, len(tasks)))
    for task_id in ids:
        if task_id not in tasks.ids:
            raise ValueError(f"split {split!r} of suite {suite!r} has no task {task_id!r}, e.g. {tasks.ids[0]!r}")
    with Rollout(settings) as runner:
        trajectories = runner.run(player, ids, seed=seed)
    successes = sum(trajectory.is_success for trajectory in trajectories)
    mean = sum(trajectory.total_reward for trajectory in trajectories) / len(trajectories)
    if as_json:
        summary = {"agent": agent, **settings, "seed": seed, "success": successes / len(trajectories)}
        summary |= {"mean_reward": mean, "episodes": [_as_json(trajectory) for trajectory in trajectories]}
        print(json.dumps(summary, ensure_ascii=False, indent=2))
        return
    colour = sys.stdout.isatty()
    for trajectory in trajectories if render else ():
        _print_episode(trajectory, colour)
    print(
        f"{agent} on {chosen.name}/{split}: {successes} of {len(trajectories)} correct, "
        f"mean {reward} reward {mean:.3f} of at most {maximum:g}"
    )


def _as_json(trajectory: Trajectory) -> dict[str, Any]:
    transcript = trajectory.transcript
    return {
        "task_id": trajectory.task_id,
        "prompt": transcript.task.prompt,
        "is_success": trajectory.is_success,
        "stop_reason": trajectory.stop_reason,
        "answer": transcript.answer,
        "reward": trajectory.total_reward,
        "reward_terms": trajectory.reward_terms,
        "turn_rewards": trajectory.turn_rewards,
        "turns": [{"text": turn.text, "observation": turn.observation} for turn in transcript.turns],
    }


def _print_episode(trajectory: Trajectory, colour: bool) -> None:
    task = trajectory.transcript.task
    print(render_opening([{"role": task.id, "content": task.prompt}], colour))
    for number, turn in enumerate(trajectory.transcript.turns, start=1):
        print(render_turn(number, turn, colour))
    print(render_terms(trajectory.transcript, trajectory.reward_terms, colour) + "\n")


@app.command()
def play(
    suite: SuiteOption = "math",
    split: Annotated[str | None, typer.Option(help="Split of the suite; its first one by default.")] = None,
    task: Annotated[str | None, typer.Option(help="Id of the task to play.")] = None,
    seed: Annotated[int | None, typer.Option(help="Chooses the task; any by default.")] = None,
    max_turns: Annotated[int, typer.Option(help="Turns after which the episode is cut off.")] = 8,
    prompt: PromptOption = "compact",
) -> None:
    r"""Play a task yourself: type tool calls and an answer, see what every reward pays.

    Examples:
    - `mentor-gym play --suite math`, then type `add a=1 b=2`, `answer 3`, `help` or `quit`

    - `printf 'stock apple\nanswer 120\n' | mentor-gym play --suite tests/custom_suite/suite.yaml --task shop-3`
    """
    env = MentorToolEnv(suite=suite, split=split, max_turns=max_turns, prompt=prompt)
    try:
        play_module.play(env, seed=seed, task_id=task)
    finally:
        env.close()


@app.command("eval")
def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="A model folder, a Hugging Face id, or an agent's name.")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="The same as MODEL.")] = None,
    suite: SuiteOption = "math",
    split: Annotated[list[str] | None, typer.Option(help="A split; may be repeated. Default: test.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Episodes of each task, for pass@k.")] = 1,
    tasks: Annotated[int | None, typer.Option(min=1, help="How many tasks of each split; all by default.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only tasks whose meta has this value, as key=value, e.g. calls=1; may be repeated."),
    ] = None,
    max_turns: Annotated[int, typer.Option(min=1, help="Turns after which an episode is cut off.")] = 8,
    prompt: PromptOption = "compact",
    seed: Annotated[int, typer.Option(help="Seeds the agent and chooses the tasks.")] = 0,
    temperature: TemperatureOption = None,
    option: AgentSettings = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the results to this file.")] = None,
) -> None:
    """Measure unshaped success, pass@k and tool use of an agent on one or more splits.

    Without --temperature, a language model is greedy at -k 1 and samples at its own default above. A model that
    was not trained on the compact prompt, such as one from the Hub, needs `--prompt full`.

    Examples:
    - `mentor-gym eval runs/demo/final --split test --split ood-tools -k 4 --temperature 1`

    - `mentor-gym eval --agent teacher --suite math --tasks 50 --json result.json`
    """
    name = model or agent
    if name is None or (model and agent):
        raise ValueError("name one agent: mentor-gym eval MODEL, or mentor-gym eval --agent NAME")
    chosen = load_suite(suite)
    splits = split or ["test" if "test" in chosen.splits else chosen.splits[0]]
    conditions = read_pairs("--where", where)
    for item in splits:
        # An unknown or broken split, or one without such tasks, is refused before a model is loaded.
        chosen.tasks(item).where(conditions)
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise ValueError(f"--json {json_file}: the folder {json_file.absolute().parent} does not exist")
    wished: dict[str, Any] = {"seed": seed}
    if k == 1:
        wished["temperature"] = 0.0
    player = _load_agent(name, option, {"temperature": temperature}, wished)
    from agents.evaluate import evaluate as run_evaluation
    from agents.evaluate import format_table

    results = []
    for item in splits:
        result = run_evaluation(
            player, suite, item, k=k, tasks=tasks, prompt=prompt, max_turns=max_turns, seed=seed, where=conditions
        )
        results.append({**result, "agent": name})
    table = format_table(results)
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        # A file has no width to fit into; rich would squeeze the numbers into 80 columns.
        console = Console(width=120)
    console.print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


@app.command()
def train(
    config: Annotated[
        str | None, typer.Argument(help="A YAML file, or the name of a shipped configuration.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings to change, as key=value.")] = None,
    agent: Annotated[
        str | None,
        typer.Option(help="sb3-ppo or sb3-maskable-ppo; the configuration is then the shipped one by default."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest complete checkpoint.")] = False,
) -> None:
    """Train a model: supervised on teacher traces, or with a reward; or a Stable-Baselines3 policy (`--agent`).

    A model that was not trained on the compact prompt, such as one from the Hub, needs `prompt=full`.

    Examples:
    - `mentor-gym train grpo-mentor steps=100 seed=1 output=runs/mentor-1`

    - `mentor-gym train grpo-mentor steps=100 seed=1 output=runs/mentor-1 --resume`

    - `mentor-gym train --agent sb3-ppo seed=1 output=runs/sb3-1`
    """
    words = ["mentor-gym", "train", *(word for word in (config, *(overrides or ())) if word is not None)]
    tasks = ""
    if agent is not None or config in SB3_AGENTS:
        words += ["--agent", agent] if agent is not None else []
        run, tasks = _prepare_sb3(agent or str(config), config, list(overrides or []), resume)
    elif config is None:
        raise ValueError(
            "name a configuration, or an agent: mentor-gym train CONFIG, or mentor-gym train --agent NAME"
        )
    else:
        from agents.config import load_config

        settings = load_config(config, list(overrides or []))
        from agents.train import train as run_training

        run = partial(run_training, settings, resume=resume)
    with resumable(f"go on with: {shlex.join([*words, '--resume'])}"):
        folder = run()
    print(f"trained: {folder}\nmeasure it: mentor-gym eval {shlex.quote(str(folder))}{tasks}")


def _prepare_sb3(
    agent: str, config: str | None, overrides: list[str], resume: bool
) -> tuple[Callable[[], Path], str]:
    """Return what trains a Stable-Baselines3 policy, and options of `eval` that choose the same kind of tasks.

    The first override may stand in the place of the configuration.
    """
    if agent not in SB3_AGENTS:
        raise ValueError(
            f"--agent {agent!r} cannot be trained; {' and '.join(SB3_AGENTS)} can{nearest(agent, SB3_AGENTS)}"
        )
    if config is not None and "=" in config and not Path(config).is_file():
        overrides, config = [config, *overrides], None
    from agents.config import read_config
    from agents.sb3_train import SB3Config
    from agents.sb3_train import train as run_training

    settings = read_config(SB3Config, config or agent, [f"algorithm={agent}", *overrides])
    conditions = (shlex.quote(f"{key}={json.dumps(value)}") for key, value in settings.where.items())
    return partial(run_training, settings, resume=resume), "".join(f" --where {item}" for item in conditions)


@app.command()
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="A smaller run, one minute instead of seven.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the runs and the report.")] = Path("runs/demo"),
) -> None:
    """Train every arm from the same small model, compare them on equal terms and write a report.

    Examples:
    - `mentor-gym demo`

    - `mentor-gym demo --quick --out runs/quick`
    """
    from agents.demo import demo as run_demo

    with resumable("run the same command again, finished runs are kept"):
        report = run_demo(out, quick)
    print(f"report: {report}")


@app.command()
def study(
    plan: Annotated[str, typer.Argument(help="A study's YAML file, or the name of a shipped one.")] = "study",
    out: Annotated[Path, typer.Option(help="Folder for the runs and the report.")] = Path("runs/study"),
    quick: Annotated[bool, typer.Option("--quick", help="A few steps of all, to see that it runs.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Only the runs of this condition; may be repeated.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at the same time; one a core by default, at most 4.")
    ] = None,
    show_plan: Annotated[
        bool, typer.Option("--plan", help="Show what would run and what has, and run nothing.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Write the report of the runs that have finished.")
    ] = False,
) -> None:
    """Compare ways to learn from a teacher along several axes, many seeds each, and decide stated hypotheses.

    Finished runs are kept: the same command goes on where it stopped. `PLAN` may also be a `results.json`, from
    which `--report-only` writes the report anew.

    Examples:
    - `mentor-gym study configs/study.yaml --plan`

    - `mentor-gym study configs/study.yaml --quick --out runs/quick-study`
    """
    from agents.study import study as run_study

    with resumable("run the same command again, finished runs are kept"):
        report = run_study(plan, out, quick, tuple(only or ()), workers, show_plan, report_only)
    if report is not None:
        print(f"report: {report}")


@app.command("serve-mcp")
def serve_mcp(
    suite: SuiteOption = "math",
    split: Annotated[str | None, typer.Option(help="Split of the task; the suite's first one by default.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Open the tools with this task's state; the split's first by default.")
    ] = None,
) -> None:
    """Serve a suite's tools to any MCP client, over standard input and output.

    Examples:
    - `mentor-gym serve-mcp --suite shop --split test`
    """
    from mentor_gym.serve_mcp import serve

    serve(suite, task, split)


if __name__ == "__main__":
    sys.exit(main())
