"""Gymnasium wrappers around `MentorToolEnv`."""

from mentor_gym.wrappers.reward import RewardWrapper, SparseReward, TeacherGuidedReward

__all__ = ["RewardWrapper", "SparseReward", "TeacherGuidedReward"]
