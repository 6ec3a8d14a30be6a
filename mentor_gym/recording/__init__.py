"""Recording: a teacher behind a chat-completions endpoint plays tasks; what the grader accepts becomes rows."""

from mentor_gym.recording.client import Endpoint, EndpointError
from mentor_gym.recording.episode import SYSTEM_PROMPT, Attempt, Outcome
from mentor_gym.recording.record import Progress, RecordError, Recording, record

__all__ = [
    "SYSTEM_PROMPT",
    "Attempt",
    "Endpoint",
    "EndpointError",
    "Outcome",
    "Progress",
    "RecordError",
    "Recording",
    "record",
]
