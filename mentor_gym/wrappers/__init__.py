"""Gymnasium wrappers around `MentorToolEnv`."""

from mentor_gym.wrappers.menu import Menu, MenuWrapper
from mentor_gym.wrappers.reward import RewardWrapper, SparseReward, TeacherGuidedReward

__all__ = ["Menu", "MenuWrapper", "RewardWrapper", "SparseReward", "TeacherGuidedReward"]
