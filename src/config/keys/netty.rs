//! Keys of the two netty classes. Source: NettyServerConfig, NettyClientConfig (4.9.3).

use super::*;

/// The 14 keys of `NettyServerConfig`.
pub(super) const NETTY_SERVER: &[Key] = keys! {
    int listenPort = "10911" [range(0, 65535) used("remoting")]
        "Main port; listenPort-2 is the fast port, listenPort+1 the HA port. 9876 for the name \
            server. 0 lets the kernel choose.";
    int serverWorkerThreads = "8" [ignored(ONE_THREAD)]
        "Codec threads; also the name server request pool size.";
    int serverCallbackExecutorThreads = "0" [ignored(ONE_THREAD)]
        "0 => 4.";
    int serverSelectorThreads = "3" [ignored(ONE_THREAD)]
        "Selector threads.";
    int serverOnewaySemaphoreValue = "256" [ignored(BUFFERS)]
        "Outgoing oneway permits.";
    int serverAsyncSemaphoreValue = "64" [ignored(BUFFERS)]
        "Outgoing asynchronous permits.";
    int serverChannelMaxIdleTimeSeconds = "120" [unit("s") at_least(1) used("remoting")]
        "Idle close.";
    int serverSocketSndBufSize = "0" [unit("B") ignored(BUFFERS)]
        "Send buffer of accepted sockets; 0 leaves it to the kernel.";
    int serverSocketRcvBufSize = "0" [unit("B") ignored(BUFFERS)]
        "Receive buffer of accepted sockets; 0 leaves it to the kernel.";
    int writeBufferHighWaterMark = "0" [unit("B") ignored(BUFFERS)]
        "Netty write buffer, high mark.";
    int writeBufferLowWaterMark = "0" [unit("B") ignored(BUFFERS)]
        "Netty write buffer, low mark.";
    int serverSocketBacklog = "1024" [ignored(BUFFERS)]
        "Listen backlog.";
    flag serverPooledByteBufAllocatorEnable = "true" [ignored(BUFFERS)]
        "Netty pooled buffers.";
    flag useEpollNativeSelector = "false" [ignored(BUFFERS)]
        "Linux epoll transport.";
};

/// The 14 keys of `NettyClientConfig`.
pub(super) const NETTY_CLIENT: &[Key] = keys! {
    int clientWorkerThreads = "4" [ignored(ONE_THREAD)]
        "Broker acting as client of name servers and master.";
    int clientCallbackExecutorThreads = "cpu count" [computed ignored(ONE_THREAD)]
        "Callback threads.";
    int clientOnewaySemaphoreValue = "65535" [ignored(BUFFERS)]
        "Outgoing oneway permits.";
    int clientAsyncSemaphoreValue = "65535" [ignored(BUFFERS)]
        "Outgoing asynchronous permits.";
    int connectTimeoutMillis = "3000" [unit("ms") at_least(1) used("remoting")]
        "How long the broker waits for a connection to a name server.";
    long channelNotActiveInterval = "60000" [unit("ms") ignored(NOT_READ)]
        "Kept for old files.";
    int clientChannelMaxIdleTimeSeconds = "120" [unit("s") at_least(1) used("remoting")]
        "Idle close of connections that the broker opened.";
    int clientSocketSndBufSize = "0" [unit("B") ignored(BUFFERS)]
        "Send buffer of dialled sockets.";
    int clientSocketRcvBufSize = "0" [unit("B") ignored(BUFFERS)]
        "Receive buffer of dialled sockets.";
    flag clientPooledByteBufAllocatorEnable = "false" [ignored(BUFFERS)]
        "Netty pooled buffers of the client.";
    flag clientCloseSocketIfTimeout = "true" [ignored(BUFFERS)]
        "Close the connection when a request timed out.";
    flag useTLS = "false" [refused(TLS)]
        "Speak TLS to name servers and the master.";
    int writeBufferHighWaterMark = "0" [unit("B") ignored(BUFFERS)]
        "Netty write buffer, high mark.";
    int writeBufferLowWaterMark = "0" [unit("B") ignored(BUFFERS)]
        "Netty write buffer, low mark.";
};
