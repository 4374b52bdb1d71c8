// Carries a precompiled header; see precompiled.hpp.
