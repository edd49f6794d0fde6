/* The rules that a model can do without: spin -DMUTANT=name deletes that one at the lines that obey it. */
#define NONE 0
#define R1_NEW_EPOCH 1
#define R1_FENCING 2
#define R1_LEADER_STORES 3
#define R2_CONFIRMED 4
#define R3_PROPOSED_COUNTS 5
#define R3_WAIT_FOR_ALL 6
#define R4_MATCHED 7
#define R4_FIRST_OF_EPOCH 8
#define R5_FIRST_ENTRY 9
#define R6_NEW_REIGN 10
#define R6_OWN_SYNC 11
#define R7_COMMON_POINT 12
#define R7_CUT 13
#define R7_OWN_EPOCH_STAYS 14
#define R11_MIN_ISR 15
#define R11_ELIGIBLE 16
#define R18_COMPARE 17
#define R23_ACK_AFTER_SYNC 18
#define R29_MAP_ORDER 19
#define R14_CHECKED_THEN 20
#define R15_EVERY_MEMBER 21
#define R15_EPOCH_OF_ANSWER 22
#define R15_FROM_SENDING 23
#define R15_GRACE_IS_LONGER 24
#define R15_RESTART_PROMISES 25
#define R15_WAITS_OUT 26
#define R16_ELIGIBLE 27
#define R5_JOINED_LATER 28
#define R20_SERVING 29
#define R20_OUTCOME_KNOWN 30
#define R20_RELEASE_OF_EPOCH 31
#define R8_APPENDED_IS_UNKNOWN 32
#define R9_ALL_ATTEMPTS 33
#define R10_CHECKED_AT_EXECUTION 34
#define R10_STORED_WITH_IT 35
#define R10_FORGOTTEN_IS_NOT_NEW 36
#define R10_NAMES_TRAVEL 37
#define R10_BY_LOG_TIME 38
#define R25_ONE_TRANSACTION 39
#define R27_OPENED_AGAIN 40
#define R27_SENT_AGAIN 41
#define R3_TAKEN_BACK 42
#define R5_JOINED_BEFORE 43
#define R4_INCARNATION 44
#define R13_NEW_STORE 45
#define R30_NEVER_BELOW 46

#ifndef MUTANT
#define MUTANT NONE
#endif
#define rule(name) (MUTANT != name)

/* What is checked. A counterexample names it by the number behind the condition. (live.pml has GOES_ON, a formula.) */
#define check(property, condition) assert((condition) || property == 0)
#define NOTHING_LOST 1     /* what was committed at an index is what anybody commits there, ever */
#define LOGS_AGREE 2       /* up to its commit index a log holds what was committed */
#define CUT_ABOVE_COMMIT 3 /* nobody cuts what it knows to be committed */
#define LOG_CONTINUES 4    /* entries are of the log that they are appended to */
#define READS_NEWEST 6     /* nobody serves a read when a later epoch has committed or served anything */
#define READS_ALL 5        /* a serving leader of the newest epoch has all that was committed */
#define EXECUTED_ONCE 7    /* no replica executes a name twice */
#define TOLD_TRUTH 8       /* what a client was told to be surely not done is never executed */
