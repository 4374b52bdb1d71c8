int unused_reward;
