int unused_dpo;
