# Where 5.x has the classes that 4.9 has in rocketmq-common. Only import lines are touched.
/^import /s/org\.apache\.rocketmq\.common\.protocol\./org.apache.rocketmq.remoting.protocol./
/^import /s/org\.apache\.rocketmq\.common\.admin\./org.apache.rocketmq.remoting.protocol.admin./
/^import /s/org\.apache\.rocketmq\.common\.subscription\./org.apache.rocketmq.remoting.protocol.subscription./
