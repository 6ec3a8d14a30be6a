"""Token records of a conversation: append-only and aligned."""

from __future__ import annotations

import pytest
from small_models import make_model, make_tokenizer

from agents.base import Observation
from agents.conversation import Conversation
from agents.llm import LLMAgent


def test_three_lists_stay_aligned():
    conversation = Conversation()
    conversation.extend_observation([1, 2, 3])
    conversation.extend_action([4, 5], [-0.1, -0.2])
    conversation.extend_observation([6])
    conversation.extend_action([7])
    assert conversation.token_ids == [1, 2, 3, 4, 5, 6, 7]
    assert conversation.action_mask == [False, False, False, True, True, False, True]
    assert conversation.logprobs == [0, 0, 0, -0.1, -0.2, 0, 0]
    assert len(conversation) == 7
    with pytest.raises(ValueError, match="2 token ids but 1 log-prob"):
        conversation.extend_action([8, 9], [-0.3])
    assert len(conversation) == 7, "a refused extension must leave nothing behind"


def test_a_turn_of_an_unknown_episode_is_refused():
    agent = LLMAgent((make_model(), make_tokenizer()))
    with pytest.raises(ValueError, match="episode 7 is at turn 2"):
        agent.act([Observation("result", [{"role": "user", "content": "result"}], episode=7, turn=2)])


@pytest.mark.parametrize("option", [{"temperature": -1.0}, {"max_new_tokens": 0}])
def test_wrong_options_are_refused(option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} must be"):
        LLMAgent((make_model(), make_tokenizer()), **option)
