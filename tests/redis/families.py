"""The commands of the differential test by family, each by what it may look like (grammar.py). The number before a line is how
often it comes, beside the others of its family."""

# family: (weight, lines)
FAMILIES = {
    "strings": (14, """
        6 SET skey value { NX | XX | GET | KEEPTTL | EX seconds | PX milliseconds | EXAT moment | PXAT momentms }
        4 SET skey integer
        5 GET skey
        2 SETNX skey value
        1 SETEX skey seconds value
        1 PSETEX skey milliseconds value
        2 GETSET skey value
        2 GETDEL skey
        2 GETEX skey [ ( PERSIST | EX seconds | PX milliseconds | EXAT moment | PXAT momentms ) ]
        1 GETEX skey { PERSIST | EX seconds | PX milliseconds | EXAT moment | PXAT momentms }
        2 MGET anykey+
        2 MSET (skey value)+
        1 MSET (anykey value)
        1 MSETNX (skey value)+
        3 APPEND skey value
        2 STRLEN skey
        2 GETRANGE skey index index
        1 SUBSTR skey index index
        2 SETRANGE skey offset value
        2 INCR skey
        3 INCRBY skey integer
        2 DECR skey
        2 DECRBY skey integer
        3 INCRBYFLOAT skey anynumber
        1 SET ckey member
        1 LCS ckey ckey { LEN | IDX | MINMATCHLEN integer | WITHMATCHLEN }
        1 DEL skey
    """),
    "keys": (9, """
        2 DEL anykey+
        1 UNLINK anykey+
        3 EXISTS anykey+
        1 TOUCH anykey+
        3 TYPE key
        3 EXPIRE key seconds { NX | XX | GT | LT }
        2 PEXPIRE key milliseconds { NX | XX | GT | LT }
        3 EXPIREAT key moment { NX | XX | GT | LT }
        2 PEXPIREAT key momentms { NX | XX | GT | LT }
        3 TTL key
        3 PTTL key
        2 EXPIRETIME key
        2 PEXPIRETIME key
        3 PERSIST key
        1 RENAME key target
        1 RENAMENX key target
        3 COPY key target { DB 0 | REPLACE }
        2 OBJECT ENCODING key
        1 OBJECT REFCOUNT key
        1 OBJECT IDLETIME key
        1 OBJECT FREQ key
        1 OBJECT member key
        1 RANDOMKEY
        1 KEYS keypattern
        2 SCAN cursor { MATCH keypattern | COUNT count | TYPE ( STRING | LIST | SET | ZSET | HASH | OTHER ) }
        1 DUMP key
    """),
    "hashes": (10, """
        6 HSET hkey (member value)+
        2 HSET hkey (member integer)+
        1 HMSET hkey (member value)+
        2 HSETNX hkey member value
        4 HGET hkey member
        3 HMGET hkey member+
        4 HDEL hkey member+
        2 HEXISTS hkey member
        2 HLEN hkey
        2 HSTRLEN hkey member
        2 HGETALL hkey
        1 HKEYS hkey
        1 HVALS hkey
        3 HINCRBY hkey member integer
        3 HINCRBYFLOAT hkey member anynumber
        2 HRANDFIELD hkey [ count [ WITHVALUES ] ]
        2 HSCAN hkey cursor { MATCH pattern | COUNT count }
        1 DEL hkey
    """),
    "lists": (10, """
        4 LPUSH lkey value+
        4 RPUSH lkey member+
        1 LPUSHX lkey member+
        1 RPUSHX lkey member+
        3 LPOP lkey [ count ]
        3 RPOP lkey [ count ]
        2 LLEN lkey
        4 LRANGE lkey index index
        3 LINDEX lkey index
        3 LSET lkey index value
        3 LINSERT lkey ( BEFORE | AFTER | BEFORE | AFTER | BEFORE | AFTER | OTHER ) member member
        3 LREM lkey index member
        2 LTRIM lkey index index
        3 LPOS lkey member { RANK index | COUNT count | MAXLEN count }
        2 LMOVE lkey lkey ( LEFT | RIGHT ) ( LEFT | RIGHT | LEFT | RIGHT | UP )
        1 RPOPLPUSH lkey lkey
        2 LMPOP #lkey ( LEFT | RIGHT ) [ COUNT count ]
        1 DEL lkey
    """),
    "sets": (10, """
        6 SADD ekey member+
        3 SADD ekey integer+
        3 SREM ekey member+
        2 SISMEMBER ekey member
        2 SMISMEMBER ekey member+
        2 SCARD ekey
        2 SMEMBERS ekey
        2 SMOVE ekey ekey member
        2 SPOP ekey [ count ]
        2 SRANDMEMBER ekey [ count ]
        2 SUNION ekey+
        2 SINTER ekey+
        2 SDIFF ekey+
        1 SUNIONSTORE ekey ekey+
        1 SINTERSTORE ekey ekey+
        1 SDIFFSTORE ekey ekey+
        2 SINTERCARD #ekey [ LIMIT count ]
        2 SSCAN ekey cursor { MATCH pattern | COUNT count }
        1 DEL ekey
    """),
    "sorted sets": (16, """
        6 ZADD zkey { NX | XX | GT | LT | CH } (score member)+
        4 ZADD zkey (score member)+
        2 ZADD zkey { NX | XX | GT | LT | CH | INCR } score member
        2 ZINCRBY zkey score member
        3 ZREM zkey member+
        3 ZSCORE zkey member
        2 ZMSCORE zkey member+
        2 ZCARD zkey
        2 ZRANK zkey member
        2 ZREVRANK zkey member
        2 ZCOUNT zkey bound bound
        3 ZRANGE zkey index index { REV | WITHSCORES }
        2 ZRANGE zkey bound bound BYSCORE { REV | WITHSCORES | LIMIT index index }
        2 ZRANGE zkey ( bound | lex | index ) ( bound | lex | index ) { BYSCORE | REV | WITHSCORES | LIMIT index index }
        1 ZREVRANGE zkey index index [ WITHSCORES ]
        2 ZRANGEBYSCORE zkey bound bound { WITHSCORES | LIMIT index index }
        2 ZREVRANGEBYSCORE zkey bound bound { WITHSCORES | LIMIT index index }
        2 ZRANGESTORE zkey zkey ( index index | bound bound BYSCORE ) { REV | LIMIT index index }
        1 ZREMRANGEBYRANK zkey index index
        1 ZREMRANGEBYSCORE zkey bound bound
        2 ZPOPMIN zkey [ count ]
        2 ZPOPMAX zkey [ count ]
        2 ZMPOP #zkey ( MIN | MAX ) [ COUNT count ]
        2 ZRANDMEMBER zkey [ count [ WITHSCORES ] ]
        2 ZUNION #zkey { WEIGHTS number+ | AGGREGATE ( SUM | MIN | MAX ) | WITHSCORES }
        2 ZINTER #zkey { WEIGHTS number number | AGGREGATE ( SUM | MIN | MAX ) | WITHSCORES }
        2 ZDIFF #zkey { WITHSCORES }
        2 ZUNIONSTORE zkey #zkey { WEIGHTS number+ | AGGREGATE ( SUM | MIN | MAX ) }
        2 ZINTERSTORE zkey #zkey { WEIGHTS number number | AGGREGATE ( SUM | MIN | MAX ) }
        1 ZUNIONSTORE zkey 2 ekey zkey { WEIGHTS number number | AGGREGATE ( SUM | MIN | MAX ) }
        1 ZDIFFSTORE zkey #zkey
        1 ZINTERCARD #zkey [ LIMIT count ]
        2 ZSCAN zkey cursor { MATCH pattern | COUNT count }
        2 DEL zkey
    """),
    "sorted words": (4, """
        5 ZADD levelstore (0 member)+
        1 ZADD levelstore { NX | XX | CH } (0 member)+
        1 ZREM levelstore member+
        2 ZLEXCOUNT level lex lex
        2 ZRANGEBYLEX level lex lex { LIMIT index index }
        2 ZREVRANGEBYLEX level lex lex { LIMIT index index }
        3 ZRANGE level lex lex BYLEX { REV | WITHSCORES | LIMIT index index }
        1 ZRANGE level ( bound | lex | index ) ( bound | lex | index ) { BYLEX | BYSCORE | REV | WITHSCORES | LIMIT index index }
        2 ZRANGESTORE levelstore level lex lex BYLEX { REV | LIMIT index index }
        2 ZREMRANGEBYLEX level lex lex
        1 ZUNIONSTORE levelstore #level
        1 SET wkey value
    """),
    "bitmaps": (6, """
        5 SETBIT bkey offset bit
        3 GETBIT bkey offset
        3 BITCOUNT bkey [ index index [ ( BIT | BYTE ) ] ]
        3 BITPOS bkey bit [ index [ index [ ( BIT | BYTE ) ] ] ]
        2 BITOP ( AND | OR | XOR ) bkey bkey+
        1 BITOP NOT bkey bkey
        4 BITFIELD bkey { GET fieldtype fieldoffset | SET fieldtype fieldoffset integer | INCRBY fieldtype fieldoffset integer | OVERFLOW ( WRAP | SAT | FAIL ) }
        1 BITFIELD_RO bkey { GET fieldtype fieldoffset }
        1 SET bkey value
        1 DEL bkey
    """),
    "hyperloglog": (3, """
        4 PFADD pkey member+
        1 PFADD pkey integer+
        1 PFADD pkey
        3 PFCOUNT pkey+
        2 PFMERGE pkey pkey+
        1 STRLEN pkey
        1 DEL pkey
    """),
    "sort": (3, """
        2 SORT ( lkey | ekey | zkey ) { BY sortpattern | LIMIT index index | GET sortpattern | ASC | DESC | ALPHA }
        2 SORT ( lkey | ekey | zkey ) ALPHA { DESC | LIMIT index index }
        1 RPUSH nkey digit+
        1 SADD nkey digit+
        1 LPOP nkey
        2 SORT nkey { ALPHA | DESC | LIMIT index index } STORE nkey
        1 SORT_RO ( lkey | ekey | zkey ) { BY sortpattern | LIMIT index index | ASC | DESC | ALPHA }
    """),
    "waiting": (0.3, """
        1 BLPOP lkey+ soon
        1 BRPOP lkey+ soon
        1 BLMOVE lkey lkey ( LEFT | RIGHT ) ( LEFT | RIGHT ) soon
        1 BRPOPLPUSH lkey lkey soon
        1 BLMPOP soon #lkey ( LEFT | RIGHT ) [ COUNT count ]
        1 BZPOPMIN zkey+ soon
        1 BZPOPMAX zkey+ soon
        1 BZMPOP soon #zkey ( MIN | MAX ) [ COUNT count ]
    """),
    "connection": (1, """
        2 PING
        1 PING value
        1 ECHO value
        1 SELECT ( 0 | index )
        1 NOSUCHCOMMAND value+
    """),
}

# Commands that wait for a key, and what lets them go on.
WAITS = [
    ("BLPOP qkey+ 20", "RPUSH qkey member+"),
    ("BRPOP qkey 20", "LPUSH qkey member+"),
    ("BLMOVE qkey qtarget ( LEFT | RIGHT ) ( LEFT | RIGHT ) 20", "RPUSH qkey member+"),
    ("BRPOPLPUSH qkey qkey 20", "RPUSH qkey member+"),
    ("BLMPOP 20 #qkey ( LEFT | RIGHT ) [ COUNT count ]", "RPUSH qkey member+"),
    ("BZPOPMIN qkey+ 20", "ZADD qkey (digit member)+"),
    ("BZPOPMAX qkey+ 20", "ZADD qkey (digit member)+"),
    ("BZMPOP 20 #qkey ( MIN | MAX ) [ COUNT count ]", "ZADD qkey (digit member)+"),
]
